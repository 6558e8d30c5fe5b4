package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func runListStop(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	if c.State != "running" || c.Name != s.Name || c.Image != s.Image || c.HostIP != s.HostIP || c.HostPort != s.HostPort {
		t.Fatalf("run gave %+v", c)
	}
	if since := time.Since(c.Created); since < 0 || since > time.Minute {
		t.Fatalf("created %s", c.Created)
	}
	answers(t, s.addr(), s.Name)
	answers(t, c.Addr, s.Name)
	list, err := b.List(t.Context(), s.Labels)
	if err != nil || len(list) != 1 {
		t.Fatalf("list gave %+v, %v", list, err)
	}
	l := list[0]
	if l.ID != c.ID || l.Name != c.Name || l.Image != c.Image || l.State != c.State || l.Addr != c.Addr ||
		l.HostIP != c.HostIP || l.HostPort != c.HostPort || !hasLabels(l.Labels, s.Labels) || c.Created.Unix() != l.Created.Unix() {
		t.Fatalf("list gave %+v, run %+v", l, c)
	}
	if list, err := b.List(t.Context(), map[string]string{"orch.test": built.run, "case": "another"}); err != nil || len(list) != 0 {
		t.Fatalf("list by a label that is not there gave %+v, %v", list, err)
	}
	begun := time.Now()
	for range 2 { // gone already is success
		if err := b.Stop(t.Context(), c.ID, 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Fatalf("a stop that SIGTERM ends took %s", took)
	}
	b.absent(t, c.ID)
}

func runTwice(t *testing.T, b bench) {
	s := b.spec(t)
	first, second := b.run(t, s), b.run(t, s)
	if first.ID != second.ID || second.Addr != first.Addr {
		t.Fatalf("run gave %+v, then %+v", first, second)
	}
}

func runAtOnce(t *testing.T, b bench) {
	s := b.spec(t)
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			c, err := b.Run(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.ID
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == "" {
		t.Fatalf("run at once gave the containers %q", ids)
	}
	answers(t, s.addr(), s.Name)
}

func killTwice(t *testing.T, b bench) {
	s := b.spec(t, "DEAF=1")
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	for range 2 {
		if err := b.Kill(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.absent(t, c.ID)
	b.absent(t, s.Name)
	again := b.run(t, s) // the name and the port are free at once
	if again.ID == c.ID {
		t.Fatal("a killed container's ID came back")
	}
}

func killPaused(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	b.pause(t, c)
	eventually(t, "state paused", func() bool { return b.state(t, c.ID) == "paused" })
	if err := b.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	b.absent(t, c.ID)
}

func stopPaused(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	b.pause(t, c)
	eventually(t, "state paused", func() bool { return b.state(t, c.ID) == "paused" })
	begun := time.Now()
	if err := b.Stop(t.Context(), c.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Fatalf("a paused container heard SIGTERM only after %s", took)
	}
	b.absent(t, c.ID)
}

func stopDeaf(t *testing.T, b bench) {
	s := b.spec(t, "DEAF=1")
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	begun := time.Now()
	if err := b.Stop(t.Context(), c.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 900*time.Millisecond || took > 20*time.Second {
		t.Fatalf("stop with a grace of 1 s took %s", took)
	}
	b.absent(t, c.ID)
}

func exitAtStart(t *testing.T, b bench) {
	s := b.spec(t, "EXIT=7")
	if _, err := b.Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	eventually(t, "state exited", func() bool { return b.state(t, s.Name) == "exited" })
	list, err := b.List(t.Context(), s.Labels)
	if err != nil || len(list) != 1 || list[0].ExitCode != 7 || list[0].Addr != "" || list[0].HostPort != s.HostPort {
		t.Fatalf("list of a container that exited with 7 gave %+v, %v", list, err)
	}
	var out bytes.Buffer
	if err := b.Logs(t.Context(), s.Name, true, 0, &out); err != nil || !strings.Contains(out.String(), "line 2: told to exit 7") {
		t.Fatalf("its logs: %q, %v", out.String(), err)
	}
}

func runAfterExit(t *testing.T, b bench) {
	s := b.spec(t)
	first := b.run(t, s)
	b.murder(t, first)
	eventually(t, "state exited", func() bool { return b.state(t, first.ID) == "exited" })
	if c, err := b.Inspect(t.Context(), first.ID); err != nil || c.ExitCode != 137 {
		t.Fatalf("a killed container: %+v, %v; want exit code 137", c, err)
	}
	second := b.run(t, s)
	if second.ID == first.ID || second.State != "running" {
		t.Fatalf("run after an exit gave %+v", second)
	}
	answers(t, s.addr(), s.Name)
}

func leftoverCreated(t *testing.T, b bench) {
	s := b.spec(t)
	b.leave(t, s)
	left, err := b.Inspect(t.Context(), s.Name)
	if err != nil || left.State != "created" {
		t.Fatalf("the leftover is %+v, %v", left, err)
	}
	if c := b.run(t, s); c.ID == left.ID || c.State != "running" {
		t.Fatalf("run over a leftover gave %+v", c)
	}
	answers(t, s.addr(), s.Name)
}

func replaceOnOnePort(t *testing.T, b bench) {
	old := b.spec(t)
	was := b.run(t, old)
	answers(t, old.addr(), old.Name)
	for i, before := range []func(){
		func() {}, // it runs
		func() { b.pause(t, was) },
		func() { b.murder(t, was) },
		func() { b.kill(t, was.ID) }, // it is gone
	} {
		before()
		s := old
		s.Name = fmt.Sprintf("%s-%d", old.Name, i)
		s.Env = []string{"WHO=" + s.Name}
		t.Cleanup(func() { b.kill(t, s.Name) })
		now, err := b.Replace(t.Context(), was.ID, s)
		if err != nil {
			t.Fatalf("replace %d: %v", i, err)
		}
		answers(t, s.addr(), s.Name)
		b.absent(t, was.ID)
		was = now
	}
}

func replaceRefused(t *testing.T, b bench) {
	old := b.spec(t)
	was := b.run(t, old)
	s := old
	s.Name, s.Image = old.Name+"-next", "orch-engine-test:not-"+built.run
	if _, err := b.Replace(t.Context(), was.ID, s); !errors.Is(err, ErrNoImage) {
		t.Fatalf("replace by no image: %v; want ErrNoImage", err)
	}
	b.absent(t, s.Name)
	b.absent(t, was.ID) // it had to go, whatever follows
}

func replaceByItsName(t *testing.T, b bench) {
	s := b.spec(t)
	was := b.run(t, s)
	answers(t, s.addr(), s.Name)
	now, err := b.Replace(t.Context(), was.ID, s)
	if err != nil {
		t.Fatal(err)
	}
	if now.ID == was.ID || now.State != "running" {
		t.Fatalf("replace by the same name gave %+v; it was %+v", now, was)
	}
	answers(t, s.addr(), s.Name)
}
