package engine

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkDocker prints what a repair costs on the real engine: from the order to
// the first answer, in ms. Run it with -benchtime 10x on a quiet machine.
func BenchmarkDocker(b *testing.B) {
	if built.image == "" {
		b.Skip("no Docker Engine here")
	}
	d, err := NewDocker("")
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	spec := func(i int) Spec {
		name := fmt.Sprintf("orch-engine-%s-bench-%d", built.run, i)
		return Spec{
			Name: name, Image: built.image, Labels: map[string]string{"orch.test": built.run},
			HostIP: built.addr, HostPort: 18999, ContainerPort: 8000, MemoryBytes: 64 << 20, NanoCPUs: 1e9,
		}
	}
	answer := func(c Container) {
		for begun := time.Now(); ; {
			if _, err := get(c.Addr, "/"); err == nil {
				return
			}
			if time.Since(begun) > 10*time.Second {
				b.Fatalf("%s does not answer", c.Name)
			}
		}
	}
	run := func(i int) Container {
		c, err := d.Run(ctx, spec(i))
		must(err)
		answer(c)
		return c
	}
	ms := func(b *testing.B, sum time.Duration, unit string) {
		b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), unit)
	}

	b.Run("RunThenKill", func(b *testing.B) {
		var started, answered, killed time.Duration
		for i := range b.N {
			begun := time.Now()
			c, err := d.Run(ctx, spec(i))
			must(err)
			started += time.Since(begun)
			answer(c)
			answered += time.Since(begun)
			begun = time.Now()
			must(d.Kill(ctx, c.ID))
			killed += time.Since(begun)
		}
		ms(b, started, "ms/run")
		ms(b, answered, "ms/answer")
		ms(b, killed, "ms/kill")
	})
	// How a repair goes: old runs (crash flag) or has died by itself.
	for _, dies := range []bool{false, true} {
		for _, way := range []string{"KillThenRun", "Replace"} {
			b.Run(fmt.Sprintf("%s/dead=%v", way, dies), func(b *testing.B) {
				var sum, back time.Duration
				for i := range b.N {
					old := run(2 * i)
					begun := time.Now()
					if dies {
						must(d.signalKill(ctx, old.ID))
					}
					var c Container
					var err error
					if way == "Replace" {
						c, err = d.Replace(ctx, old.ID, spec(2*i+1))
					} else {
						must(d.Kill(ctx, old.ID))
						c, err = d.Run(ctx, spec(2*i+1))
					}
					must(err)
					back += time.Since(begun)
					answer(c)
					sum += time.Since(begun)
					must(d.Kill(ctx, c.ID))
				}
				ms(b, sum, "ms/repair")
				ms(b, back, "ms/return")
			})
		}
	}
}
