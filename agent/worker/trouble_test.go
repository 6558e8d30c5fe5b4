package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"orch/agent/worker"
	"orch/fsm"
)

func TestPortTaken(t *testing.T) {
	inBubble(t, func(h *home) {
		h.engine.with(func() { h.engine.taken["127.0.0.1:8000"] = true })
		h.place(1, "n1", 8000)
		spy := &spy{memory: h.engine}
		h.startWith(spy)
		h.elapse(soon)
		h.wantRow(1, fsm.Pending, "port 8000 is taken on n1")
		if !h.row(1).PortTaken {
			t.Fatal("port_taken is not set")
		}
		h.elapse(16 * time.Second)
		if n := spy.runs(); n > 4 {
			t.Errorf("%d tries in 16 s", n)
		}
		if n := h.logs.count("container not started"); n != 1 {
			t.Errorf("it was logged %d times", n)
		}
		h.relaunch(1, "n1", 8001)
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		h.wantContainers(h.name(1) + "=running")
	})
}

func TestPortFreedBeforeTheLeaderChoseAnother(t *testing.T) {
	inBubble(t, func(h *home) {
		h.engine.with(func() { h.engine.taken["127.0.0.1:8000"] = true })
		h.engine.with(func() {
			h.engine.slow[worker.Name(clusterID, fsm.Container{Service: "acts", Number: 1, Generation: 1})] = 2 * time.Second
		})
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(3 * time.Second)
		// A slow start was reported first; phases do not go back to pending.
		if r := h.row(1); !r.PortTaken || r.Observed != fsm.Starting {
			t.Fatalf("row is %s, port taken %v", r.Observed, r.PortTaken)
		}
		h.engine.with(func() { clear(h.engine.taken) })
		h.elapse(10 * time.Second)
		if r := h.row(1); r.PortTaken || r.Observed != fsm.Running {
			t.Errorf("row is %s, port taken %v", r.Observed, r.PortTaken)
		}
	})
}

// What a start can fail by is the leader's to back off from: the row says why,
// once, and nothing is tried again until the next generation.
func TestStartFails(t *testing.T) {
	stranger := func(h *home) {
		h.engine.plant(worker.Container{Name: h.name(1), State: "running", Labels: map[string]string{"of": "somebody"}})
	}
	for _, c := range []struct {
		what   string
		break_ func(h *home)
		reason string
		left   int
	}{
		{"no image", func(h *home) { clear(h.engine.images) }, "image acts:1 does not exist on n1: build or load it there", 0},
		{"stranger", stranger, "is taken on n1 by a container that is not ours", 1},
		{"command", func(h *home) { h.engine.broken["acts:1"] = errStart }, "cannot start on n1: exec: no such file", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(h *home) {
				h.place(1, "n1", 8000)
				c.break_(h)
				spy := &spy{memory: h.engine}
				h.startWith(spy)
				h.elapse(soon)
				h.wantRow(1, fsm.Stopped, c.reason)
				h.elapse(time.Minute)
				if n := spy.runs(); n != 1 {
					t.Errorf("%d tries, want 1", n)
				}
				if got := h.engine.names(); len(got) != c.left {
					t.Errorf("containers left: %v", got)
				}
				h.engine.with(func() { h.engine.images["acts:1"] = true; clear(h.engine.broken) })
				h.relaunch(1, "n1", 8000)
				h.elapse(soon)
				h.wantRow(1, fsm.Running, "")
			})
		})
	}
}

func TestVolumeOutsideItsFolderIsRefused(t *testing.T) {
	inBubble(t, func(h *home) {
		h.apply(fsm.PutService{Spec: fsm.Spec{Name: "evil", Image: "acts:1", Volumes: []fsm.Volume{{Name: "../../etc", Target: "/etc"}}}.WithDefaults()})
		h.apply(fsm.Place{Service: "evil", Number: 1, Node: "n1", Port: 8000})
		h.start()
		h.elapse(soon)
		r, _ := h.store.View().Container("evil", 1)
		if r.Observed != fsm.Stopped || !strings.Contains(r.Reason, "without slashes") {
			t.Errorf("row is %s: %s", r.Observed, r.Reason)
		}
		h.wantContainers()
	})
}

func TestEngineDownAndBack(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.start()
		h.elapse(soon)
		h.engine.breakDown(true)
		h.engine.die(h.name(1), 137, "")
		h.place(3, "n1", 8002)
		h.elapse(time.Minute)
		for n := 1; n <= 2; n++ {
			h.wantRow(n, fsm.Running, "") // a broken engine is not a dead container
		}
		h.wantRow(3, fsm.Pending, "")
		reason, since := h.w.Impaired()
		if !strings.Contains(reason, "unavailable") || time.Since(since) < 50*time.Second {
			t.Errorf("impaired: %q since %s", reason, since)
		}
		if n := h.logs.count("does not answer"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		h.engine.breakDown(false)
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Stopped, "exit code 137")
		h.wantRow(2, fsm.Running, "")
		h.wantRow(3, fsm.Running, "")
		if reason, _ := h.w.Impaired(); reason != "" {
			t.Errorf("still impaired: %s", reason)
		}
		h.engine.die(h.name(2), 1, "") // events are heard again
		h.elapse(soon)
		h.wantRow(2, fsm.Stopped, "exit code 1")
	})
}

// breaking is an engine that goes away in the middle of a start and says
// something else.
type breaking struct{ *memory }

func (b breaking) Run(ctx context.Context, s worker.Spec) (worker.Container, error) {
	c, err := b.memory.Run(ctx, s)
	if err == nil {
		b.breakDown(true)
		return worker.Container{}, errors.New("unexpected EOF")
	}
	return c, err
}

func TestEngineBreaksInTheMiddleOfAStart(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.startWith(breaking{h.engine})
		h.elapse(10 * time.Second)
		h.wantRow(1, fsm.Pending, "")
		h.engine.breakDown(false)
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Running, "") // it had started
		if h.engine.starts != 1 {
			t.Errorf("%d starts", h.engine.starts)
		}
	})
}

func TestHungEngineIsImpaired(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.slow[h.name(1)] = time.Hour })
		h.start()
		h.elapse(time.Minute)
		h.wantRow(1, fsm.Starting, "") // never stopped
		if n := h.logs.count("will be tried again"); n != 1 {
			t.Errorf("trouble was logged %d times", n)
		}
		h.engine.with(func() { clear(h.engine.slow) })
		h.elapse(time.Minute)
		h.wantRow(1, fsm.Running, "")
	})
}

func TestNoLeader(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.engine.with(func() { h.engine.slow[h.name(2)] = 500 * time.Millisecond })
		h.start()
		h.elapse(soon)
		h.setLeader(false)
		h.engine.die(h.name(1), 1, "")
		h.elapse(10 * time.Second) // acts/2 starts meanwhile
		h.engine.with(func() {
			id := h.engine.find(h.name(2)).ID
			h.engine.end(id, 1, "")
			h.engine.remove(id)
		})
		h.elapse(50 * time.Second)
		if h.refused < 30 || h.refused > 200 {
			t.Errorf("%d proposals in a minute without a leader", h.refused)
		}
		h.setLeader(true)
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Stopped, "exit code 1")
		h.wantRow(2, fsm.Stopped, "removed from outside") // not begun a second time
		if h.engine.starts != 2 {
			t.Errorf("%d starts", h.engine.starts)
		}
	})
}
