package worker_test

import (
	"slices"
	"testing"
	"time"

	"orch/agent/worker"
	"orch/fsm"
)

func TestStart(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n2", 8001)
		h.start()
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		h.wantRow(2, fsm.Pending, "")
		h.wantContainers(h.name(1) + "=running")
		if r := h.row(1); r.LocalAddr == "" {
			t.Error("the bridge address was not reported")
		}
		if !h.w.Ready() {
			t.Error("not ready after the first pass")
		}
		h.place(3, "n1", 8002) // the poke alone must do
		h.elapse(soon)
		h.wantRow(3, fsm.Running, "")
		n := h.reports()
		h.elapse(time.Minute)
		if h.reports() != n || h.engine.starts != 2 {
			t.Errorf("at rest: %d reports more, %d starts", h.reports()-n, h.engine.starts)
		}
	})
}

func TestDeathIsReportedAndNotHealedHere(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.die(h.name(1), 137, "out of memory")
		h.elapse(soon)
		h.wantRow(1, fsm.Stopped, "exit code 137: out of memory")
		h.elapse(time.Minute)
		h.wantContainers(h.name(1) + "=exited")
		if h.engine.starts != 1 {
			t.Errorf("%d starts, want 1: a generation that ended is never started again", h.engine.starts)
		}
		h.engine.set(h.name(1), "running") // docker start, by hand
		h.elapse(soon)
		h.wantContainers()
	})
}

// Docker tells of a death before its listings show it, and before the port is free.
func TestDeathIsHeardBeforeItIsListed(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.with(func() { h.engine.linger = 300 * time.Millisecond })
		h.engine.die(h.name(1), 137, "out of memory")
		h.elapse(20 * time.Millisecond)
		h.wantRow(1, fsm.Stopped, "exit code 137: out of memory")
		h.relaunch(1, "n1", 8000)
		h.elapse(400 * time.Millisecond)
		h.wantRow(1, fsm.Running, "")
		h.wantContainers(h.name(1) + "=running")
		if n := h.logs.count("is taken"); n != 0 {
			t.Errorf("its own port was called taken %d times", n)
		}
	})
}

func TestDeathThatNobodySaw(t *testing.T) {
	for _, linger := range []time.Duration{0, 300 * time.Millisecond} {
		inBubble(t, func(h *home) {
			h.place(1, "n1", 8000)
			h.start()
			h.elapse(soon)
			h.engine.with(func() { h.engine.linger = linger })
			h.engine.die(h.name(1), -1, "")
			h.elapse(soon)
			h.wantRow(1, fsm.Stopped, "it ended")
		})
	}
}

// The word of an event does not outlive its window: a container that was started
// again by hand, unheard, is ended, since its end was reported.
func TestEventDoesNotOutweighTheListingForLong(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.with(func() {
			h.engine.tell(h.engine.find(h.name(1)), "die")
			h.engine.deaf = true
		})
		h.elapse(soon)
		h.wantRow(1, fsm.Stopped, "")
		h.wantContainers(h.name(1) + "=running")
		h.elapse(4 * time.Second)
		h.wantContainers()
	})
}

// An event of long ago, as a reopened stream may repeat it, changes nothing; nor
// does a death after which the container was started again.
func TestOldEventsChangeNothing(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		name := h.name(1)
		h.engine.with(func() {
			h.engine.late = -2 * time.Second
			h.engine.tell(h.engine.find(name), "die")
			h.engine.late, h.engine.deaf = 0, false
			h.engine.lag = 50 * time.Millisecond
			h.engine.tell(h.engine.find(name), "pause") // begins a slow listing
		})
		h.elapse(20 * time.Millisecond)
		h.engine.with(func() {
			h.engine.tell(h.engine.find(name), "die")
			h.engine.tell(h.engine.find(name), "start")
		})
		h.elapse(5 * time.Second)
		h.wantRow(1, fsm.Running, "")
		h.wantContainers(name + "=running")
	})
}

func TestRelaunchOnTheSamePort(t *testing.T) {
	for _, state := range []string{"running", "paused", "exited", "removing"} {
		inBubble(t, func(h *home) {
			h.place(1, "n1", 8000)
			h.start()
			h.elapse(soon)
			if state != "running" {
				h.engine.set(h.name(1), state)
				h.elapse(soon)
			}
			if got := h.row(1).Observed; state == "paused" && got != fsm.Running {
				t.Fatalf("paused was reported as %s: the probe finds that", got)
			}
			h.relaunch(1, "n1", 8000)
			h.elapse(soon)
			h.wantRow(1, fsm.Running, "")
			h.wantContainers(h.name(1) + "=running")
			if n := h.logs.count("WARN"); n != 0 {
				t.Errorf("%s: %d warnings", state, n)
			}
		})
	}
}

func TestRemovedFromOutside(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.with(func() { delete(h.engine.all, h.engine.find(h.name(1)).ID) }) // without a word
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Stopped, "removed from outside")
		h.wantContainers()
	})
}

func TestLostEventCostsAnInterval(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.with(func() { h.engine.deaf = true })
		h.engine.die(h.name(1), 1, "")
		h.elapse(worker.DefaultInterval + soon)
		h.wantRow(1, fsm.Stopped, "exit code 1")
	})
}

func TestEventStorm(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		before, told := h.engine.lists, h.reports()
		for range 1000 {
			for range 20 {
				h.engine.with(func() { h.engine.tell(h.engine.find(h.name(1)), "exec") })
			}
			h.elapse(time.Millisecond)
		}
		if n := h.engine.lists - before; n > 110 {
			t.Errorf("20,000 events in a second caused %d listings", n)
		}
		if h.reports() != told || h.engine.starts != 1 {
			t.Error("events alone changed something")
		}
	})
}

func TestSlowRowDelaysNoOther(t *testing.T) {
	inBubble(t, func(h *home) {
		for n := range 4 {
			h.place(n+1, "n1", 8000+n)
		}
		h.engine.with(func() { h.engine.slow[h.name(1)] = 20 * time.Second })
		h.engine.with(func() { h.engine.rude[h.name(2)] = true })
		h.start()
		h.elapse(soon)
		h.apply(fsm.Drain{Row: h.row(2).Row()})
		h.apply(fsm.Stop{Row: h.row(2).Row()})
		h.elapse(soon)
		h.engine.die(h.name(3), 1, "")
		h.elapse(soon)
		h.wantRow(3, fsm.Stopped, "exit code 1")
		h.relaunch(3, "n1", 8002)
		h.elapse(soon)
		h.wantRow(3, fsm.Running, "")
		h.wantRow(1, fsm.Pending, "")
		h.elapse(time.Second)
		h.wantRow(1, fsm.Starting, "") // slow enough to be worth a word
		h.elapse(20 * time.Second)
		h.wantRow(1, fsm.Running, "")
		if !h.gone(2) {
			t.Error("acts/2 was not stopped")
		}
	})
}

func TestNewerOrderEndsASlowStart(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.slow[h.name(1)] = 25 * time.Second })
		h.start()
		h.elapse(soon)
		h.relaunch(1, "n1", 8000)
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		h.wantContainers(h.name(1) + "=running")
		if n := h.logs.count("WARN"); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})
}

func TestDrainKeepsRunningAndStopIsInOrder(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		name := h.name(1)
		h.engine.with(func() { h.engine.rude[name] = true })
		h.apply(fsm.Drain{Row: h.row(1).Row()})
		h.elapse(time.Minute)
		h.wantContainers(name + "=running")
		h.apply(fsm.Stop{Row: h.row(1).Row()})
		h.elapse(9 * time.Second) // of a grace of 10 s
		h.wantContainers(name + "=running")
		h.wantRow(1, fsm.Running, "")
		h.elapse(2 * time.Second)
		h.wantContainers()
		if !h.gone(1) {
			t.Error("the row is still there")
		}
	})
}

func TestStopOfAPausedAndOfAnEndedContainer(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.place(3, "n1", 8002)
		h.engine.with(func() { h.engine.slow[h.name(3)] = 25 * time.Second })
		h.start()
		h.elapse(soon)
		h.engine.set(h.name(1), "paused")
		h.apply(fsm.Drain{Row: h.row(2).Row()})
		h.engine.die(h.name(2), 0, "")
		for _, n := range []int{1, 3} {
			h.apply(fsm.Drain{Row: h.row(n).Row()})
			h.apply(fsm.Stop{Row: h.row(n).Row()})
		}
		h.elapse(soon)
		h.wantContainers()
		if !h.gone(1) || !h.gone(2) || !h.gone(3) {
			t.Errorf("rows left: %v", h.store.View().Containers)
		}
		if n := h.w.Remembered(); n != 0 {
			t.Errorf("%d rows are remembered", n)
		}
	})
}

func TestSpecOfAContainer(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		spy := &spy{memory: h.engine}
		h.startWith(spy)
		h.elapse(soon)
		s := spy.last()
		wantEnv := []string{"A=1", "B=2", "C=http://10.0.0.1:80/x", "ORCH_GENERATION=1", "ORCH_NODE=n1", "ORCH_NUMBER=1", "ORCH_PROXY=10.0.0.1:80", "ORCH_SERVICE=acts"}
		if !slices.Equal(s.Env, wantEnv) {
			t.Errorf("env %v, want %v", s.Env, wantEnv)
		}
		if s.MemoryBytes != 256<<20 || s.NanoCPUs != 1e9 || s.PidsLimit != 256 || s.User != "1000:1000" || s.LogMaxSize != "10m" || s.LogMaxFiles != 3 {
			t.Errorf("limits: %+v", s)
		}
		if want := (worker.Mount{Source: "/var/lib/orchd/volumes/data", Target: "/data"}); len(s.Mounts) != 1 || s.Mounts[0] != want {
			t.Errorf("mounts %v, want %v", s.Mounts, want)
		}
		if s.HostIP != "127.0.0.1" || s.HostPort != 8000 || s.ContainerPort != 8000 || s.Image != "acts:1" {
			t.Errorf("address: %+v", s)
		}
		for k, v := range map[string]string{"orch.cluster": clusterID, "orch.node": "n1", "orch.service": "acts", "orch.number": "1", "orch.generation": "1"} {
			if s.Labels[k] != v {
				t.Errorf("label %s is %q, want %q", k, s.Labels[k], v)
			}
		}
	})
}
