package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"orch/scripts/lab"
)

// exactConns is how many clients wait for turns, over all nodes.
const exactConns = 256

// turnSpec is acts with three containers and a mode of turns.
func turnSpec(mode string) string {
	return fmt.Sprintf(`name: acts
image: IMAGE
user: "10001:10001"
env: {ACTS_DATA: /data}
volumes: [{name: acts, target: /data}]
expose_internal: true
turn: %s
scale: {min: 3, max: 3}
`, mode)
}

// exact measures leased and exact turns on three real nodes, whose logs are on disk.
func exact(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bench-exact")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	programs, err := lab.Build(ctx, root, dir, false)
	if err != nil {
		return err
	}
	defer programs.Close()
	fmt.Fprintf(out, "\nturns: %d connections over three nodes and three containers of acts (%s)\n", exactConns, programs.Engine)
	fmt.Fprintf(out, "  %-8s %9s %9s %9s %7s  %s\n", "", "req/s", "p50", "p99", "failed", "turns spent")
	for _, mode := range []string{"leased", "exact"} {
		if err := turnsOf(ctx, o, programs, filepath.Join(dir, mode), mode, out); err != nil {
			return err
		}
	}
	return nil
}

func turnsOf(ctx context.Context, o options, programs *lab.Programs, dir, mode string, out io.Writer) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	c := lab.New(programs, dir, 3)
	defer func() { err = errors.Join(err, c.Down()) }()
	spec, err := c.Spec("acts", turnSpec(mode))
	if err != nil {
		return err
	}
	if err := c.Up(ctx, spec); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, n := range c.Nodes {
		if _, err := n.Healthy(ready, 3); err != nil {
			return err
		}
	}
	b := &bench{options: o, dir: dir}
	for range o.rounds {
		before, err := spentTurns(ctx, c)
		if err != nil {
			return err
		}
		sum, err := b.everywhere(ctx, c)
		if err != nil {
			return err
		}
		after, err := spentTurns(ctx, c)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-8s %9.0f %9v %9v %7d  leased %d, exact %d, local %d\n", mode, sum.perSecond, sum.p50, sum.p99, sum.failed,
			after["leased"]-before["leased"], after["exact"]-before["exact"], after["local"]-before["local"])
	}
	return nil
}

// everywhere puts all nodes under load at once: the sum of what they answer, and the
// slowest of their quantiles.
func (b *bench) everywhere(ctx context.Context, c *lab.Cluster) (sum result, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		l := load{name: "turns", conns: exactConns/len(c.Nodes) + min(1, max(0, exactConns%len(c.Nodes)-i)), path: "/api/v1/_count"}
		wg.Go(func() {
			out, werr := b.wrk(ctx, l, &process{name: n.ID, addr: n.IP + ":" + lab.ProxyPort()}, b.options.span)
			r, _, perr := parse(out)
			mu.Lock()
			defer mu.Unlock()
			if werr != nil {
				perr = nil
			}
			err = errors.Join(err, werr, perr)
			sum.perSecond += r.perSecond
			sum.failed += r.failed
			sum.p50, sum.p99 = max(sum.p50, r.p50), max(sum.p99, r.p99)
		})
	}
	wg.Wait()
	return sum, err
}

var turnsRE = regexp.MustCompile(`orch_proxy_turns_total\{service="acts",source="(\w+)"\} ([0-9.e+]+)`)

// spentTurns is what the nodes count, by source.
func spentTurns(ctx context.Context, c *lab.Cluster) (map[string]int, error) {
	out := map[string]int{}
	for _, n := range c.Nodes {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.IP+":7483/metrics", nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		for _, m := range turnsRE.FindAllStringSubmatch(string(text), -1) {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return nil, err
			}
			out[m[1]] += int(v)
		}
	}
	return out, nil
}
