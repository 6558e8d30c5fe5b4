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

// A listing takes a while; what happens meanwhile must not look like a death.
func TestSlowListing(t *testing.T) {
	inBubble(t, func(h *home) {
		h.engine.lag = 40 * time.Millisecond
		h.start()
		for n := range 8 {
			name := worker.Name(clusterID, fsm.Container{Service: "acts", Number: n + 1, Generation: 1})
			h.engine.with(func() { h.engine.slow[name] = time.Duration(5+n*7) * time.Millisecond })
			h.place(n+1, "n1", 8000+n)
			h.elapse(time.Duration(n*11) * time.Millisecond)
		}
		h.elapse(time.Second)
		for n := range 8 {
			h.wantRow(n+1, fsm.Running, "")
		}
		if h.engine.starts != 8 || h.reports() != 8 {
			t.Errorf("%d starts, %d reports, want 8 of each", h.engine.starts, h.reports())
		}
	})
}

func TestStartRefusedForTheEngineIsNotTheRowsFault(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.broken["acts:1"] = errDown })
		spy := &spy{memory: h.engine}
		h.startWith(spy)
		h.elapse(20 * time.Second)
		h.wantRow(1, fsm.Pending, "")
		if n := spy.runs(); n < 8 || n > 30 {
			t.Errorf("%d tries in 20 s", n)
		}
		h.engine.with(func() { clear(h.engine.broken) })
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Running, "")
		if n := h.logs.count("done after trouble"); n != 1 {
			t.Errorf("the end of the trouble was logged %d times", n)
		}
	})
}

func TestOrderToStopDoesNotWaitForABackOff(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.broken["acts:1"] = errDown })
		h.start()
		h.elapse(20 * time.Second)
		h.apply(fsm.Drain{Row: h.row(1).Row()})
		h.elapse(soon)
		if !h.gone(1) {
			t.Error("the row of a container that never started is still there")
		}
	})
}

func TestFailedStartIsNotRepeatedWhileTheViewLags(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.broken["acts:1"] = errStart })
		h.freeze(true)
		spy := &spy{memory: h.engine}
		h.startWith(spy)
		h.elapse(5 * time.Second)
		if n := spy.runs(); n != 1 {
			t.Errorf("%d tries", n)
		}
		if n := h.reports(); n > 6 {
			t.Errorf("%d reports in 5 s", n)
		}
	})
}

func TestOvertakenReportIsNoTrouble(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		old := h.name(1)
		h.freeze(true)
		h.relaunch(1, "n2", 8000)
		h.engine.die(old, 1, "")
		h.elapse(soon)
		if n := h.logs.count("WARN"); n != 0 {
			t.Errorf("%d warnings", n)
		}
		h.freeze(false)
		h.elapse(3 * time.Second)
		h.wantContainers()
		h.wantRow(1, fsm.Pending, "")
	})
}

func TestLaggingViewRepeatsNothing(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.start()
		h.freeze(true)
		h.elapse(soon)
		h.engine.die(h.name(2), 1, "")
		h.elapse(soon)
		h.engine.with(func() { h.engine.remove(h.engine.find(h.name(2)).ID) })
		h.elapse(soon)
		if n := h.reports(); n != 3 { // running, running, stopped
			t.Errorf("%d reports", n)
		}
		h.freeze(false)
		h.elapse(3 * time.Second)
		h.wantRow(1, fsm.Running, "")
		h.wantRow(2, fsm.Stopped, "")
		if h.engine.starts != 2 {
			t.Errorf("%d starts", h.engine.starts)
		}
	})
}

func TestLogsAreOfTheNewest(t *testing.T) {
	inBubble(t, func(h *home) {
		labels := func(created, generation string) map[string]string {
			return map[string]string{worker.LabelCluster: clusterID, worker.LabelNode: "n1", worker.LabelService: "acts",
				worker.LabelNumber: "1", worker.LabelGeneration: generation, worker.LabelCreated: created}
		}
		h.engine.plant(worker.Container{Name: "a", State: "exited", Labels: labels("7", "9")})
		h.engine.plant(worker.Container{Name: "b", State: "running", Labels: labels("8", "2")})
		h.engine.plant(worker.Container{Name: "c", State: "exited", Labels: labels("8", "1")})
		h.engine.with(func() { h.engine.find("b").log = "newest" })
		h.caught = make(chan struct{})
		h.start()
		var b strings.Builder
		if err := h.w.Logs(context.Background(), "acts", 1, false, 0, &b); err != nil || b.String() != "newest" {
			t.Errorf("logs %q, %v", b.String(), err)
		}
	})
}

func TestLogsOfAnEndedContainer(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.die(h.name(1), 1, "")
		h.elapse(soon)
		var b strings.Builder
		if err := h.w.Logs(context.Background(), "acts", 1, false, 0, &b); err != nil || b.String() != "started "+h.name(1)+"\n" {
			t.Errorf("logs of an ended container: %q, %v", b.String(), err)
		}
		err := h.w.Logs(context.Background(), "acts", 2, false, 0, &b)
		if !errors.Is(err, worker.ErrNoContainer) || !strings.Contains(err.Error(), "acts/2 on n1") {
			t.Errorf("logs of none: %v", err)
		}
	})
}

// late is an engine whose starts cannot be interrupted.
type late struct {
	*memory
	release chan struct{}
}

func (l late) Run(ctx context.Context, s worker.Spec) (worker.Container, error) {
	<-l.release
	return l.memory.Run(context.WithoutCancel(ctx), s)
}

func TestRunReturnsWhenAllHasEnded(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		l := late{h.engine, make(chan struct{})}
		h.startWith(l)
		h.elapse(soon)
		returned := make(chan struct{})
		go func() { h.stop(); close(returned) }()
		h.elapse(soon)
		select {
		case <-returned:
			t.Error("returned while a start was under way")
		default:
		}
		close(l.release)
		<-returned
		h.wantContainers(h.name(1) + "=running")
		h.wantRow(1, fsm.Pending, "")
	})
}

// patient is an engine whose listings wait until nobody wants them.
type patient struct{ *memory }

func (p patient) List(ctx context.Context, _ map[string]string) ([]worker.Container, error) {
	<-ctx.Done()
	return nil, errDown
}

func TestStoppingTheNodeIsNoTrouble(t *testing.T) {
	inBubble(t, func(h *home) {
		h.startWith(patient{h.engine})
		h.elapse(soon)
		h.stop()
		if reason, _ := h.w.Impaired(); reason != "" || h.logs.count("does not answer") != 0 {
			t.Errorf("impaired: %q", reason)
		}
		h.startWith(patient{h.engine})
		h.elapse(10 * time.Second) // nobody stops it now: the listing hangs
		if reason, _ := h.w.Impaired(); reason == "" {
			t.Error("a hung engine is no impairment")
		}
	})
}
