package worker_test

import (
	"fmt"
	"testing"
	"time"

	"orch/agent/worker"
	"orch/fsm"
)

func TestAdoptionAfterRestart(t *testing.T) {
	inBubble(t, func(h *home) {
		for n := range 4 {
			h.place(n+1, "n1", 8000+n)
		}
		h.start()
		h.elapse(soon)
		h.stop()
		h.wantContainers(h.name(1)+"=running", h.name(2)+"=running", h.name(3)+"=running", h.name(4)+"=running")
		h.engine.die(h.name(2), 137, "") // while nobody looks
		h.engine.rm(h.name(3))
		h.relaunch(4, "n1", 8003)
		h.start()
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		h.wantRow(2, fsm.Stopped, "exit code 137")
		h.wantRow(3, fsm.Stopped, "removed from outside")
		h.wantRow(4, fsm.Running, "")
		h.wantContainers(h.name(1)+"=running", h.name(2)+"=exited", h.name(4)+"=running")
		if h.engine.starts != 5 || !h.w.Ready() {
			t.Errorf("%d starts, want 5; ready: %v", h.engine.starts, h.w.Ready())
		}
		if n := h.logs.count("container adopted"); n != 1 {
			t.Errorf("adoption was logged %d times", n)
		}
	})
}

func TestRestartByHandOnlyChangesTheAddress(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.engine.with(func() {
			b := h.engine.find(h.name(1))
			b.Addr = "172.17.0.99:8000"
			h.engine.tell(b, "start")
		})
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		if got := h.row(1).LocalAddr; got != "172.17.0.99:8000" {
			t.Errorf("address %s", got)
		}
	})
}

func TestUnreportedStartIsAdopted(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.setLeader(false)
		h.start()
		h.elapse(soon)
		h.stop()
		h.setLeader(true)
		h.start()
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		if h.engine.starts != 1 {
			t.Errorf("%d starts", h.engine.starts)
		}
	})
}

func TestHalfMadeContainerIsMadeAnew(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.engine.with(func() { h.engine.slow[h.name(1)] = 10 * time.Second })
		h.start()
		h.elapse(soon)
		h.stop()
		h.wantContainers(h.name(1) + "=created")
		h.engine.with(func() { clear(h.engine.slow) })
		h.start()
		h.elapse(soon)
		h.wantRow(1, fsm.Running, "")
		h.wantContainers(h.name(1) + "=running")
	})
}

func TestFreshStartTouchesNothingBeforeItHasCaughtUp(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.start()
		h.elapse(soon)
		h.stop()
		old := h.name(1)
		h.freeze(true) // the view of before the restart
		h.relaunch(1, "n2", 8000)
		h.place(3, "n1", 8005)
		h.caught = make(chan struct{})
		h.start()
		h.elapse(time.Minute)
		h.wantContainers(old+"=running", h.name(2)+"=running")
		if h.w.Ready() {
			t.Error("ready before the view was caught up")
		}
		h.freeze(false)
		close(h.caught)
		h.elapse(soon)
		h.wantContainers(h.name(2)+"=running", h.name(3)+"=running")
		select {
		case <-h.w.Reconciled():
		default:
			t.Error("not reconciled")
		}
	})
}

func TestReadyWaitsForTheOrphans(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.stop()
		h.engine.with(func() { h.engine.rude[h.name(1)] = true })
		h.relaunch(1, "n2", 8000)
		h.start()
		h.elapse(time.Second) // of the two that an orphan gets
		if h.w.Ready() {
			t.Error("ready while an orphan runs")
		}
		h.elapse(2 * time.Second)
		h.wantContainers()
		if !h.w.Ready() {
			t.Error("not ready after the orphan has gone")
		}
	})
}

func TestOrphansOfADayAreLeftForAWhile(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		old := h.name(1)
		h.relaunch(1, "n2", 8000)
		h.elapse(9 * time.Second)
		h.wantContainers(old + "=running")
		if n := h.logs.count("generation 2 is on n2"); n != 1 {
			t.Errorf("the change of mind was logged %d times", n)
		}
		h.elapse(2 * time.Second)
		h.wantContainers()
	})
}

func TestOrphanGivesWayAtOnce(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.place(2, "n1", 8001)
		h.start()
		h.elapse(soon)
		h.relaunch(1, "n2", 8002) // its old container still holds 8000
		h.elapse(soon)
		h.place(3, "n1", 8000)
		h.relaunch(2, "n2", 8001)
		h.elapse(soon)
		h.relaunch(2, "n1", 8001) // and back: generation 1 is in the way of 3
		h.elapse(soon)
		h.wantRow(3, fsm.Running, "")
		h.wantRow(2, fsm.Running, "")
		h.wantContainers(h.name(2)+"=running", h.name(3)+"=running")
		for _, r := range h.store.View().Containers {
			if r.PortTaken {
				t.Errorf("port %d was reported as taken by a container of ours", r.Port)
			}
		}
	})
}

func TestRowGoneIsAnOrphan(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		name := h.name(1)
		h.apply(fsm.Drain{Row: h.row(1).Row()})
		h.apply(fsm.Forget{Row: h.row(1).Row()})
		h.elapse(soon)
		h.wantContainers(name + "=running")
		h.elapse(12 * time.Second)
		h.wantContainers()
	})
}

func TestForeignContainersAreLeftAlone(t *testing.T) {
	inBubble(t, func(h *home) {
		other := map[string]string{worker.LabelCluster: "c-2", worker.LabelNode: "n1", worker.LabelService: "acts", worker.LabelNumber: "1"}
		peer := map[string]string{worker.LabelCluster: clusterID, worker.LabelNode: "n2", worker.LabelService: "acts", worker.LabelNumber: "9"}
		broken := map[string]string{worker.LabelCluster: clusterID, worker.LabelNode: "n1", worker.LabelNumber: "x"}
		h.engine.plant(worker.Container{Name: "other", State: "running", Labels: other})
		h.engine.plant(worker.Container{Name: "peer", State: "running", Labels: peer})
		h.engine.plant(worker.Container{Name: "broken", State: "running", Labels: broken})
		h.engine.plant(worker.Container{Name: "plain", State: "exited"})
		h.start()
		h.elapse(time.Minute)
		h.wantContainers("other=running", "peer=running", "plain=exited") // labelled ours and nothing more: an orphan
	})
}

// A number that was given up and placed again begins at generation 1: the name
// is that of the old row's container.
func TestStaleNameOfAnOlderRow(t *testing.T) {
	for _, node := range []string{"n1", "n2"} { // n2 shares this engine, its daemon is dead
		for _, state := range []string{"running", "exited"} {
			inBubble(t, func(h *home) {
				h.place(1, "n1", 8000)
				name := h.name(1)
				h.engine.plant(worker.Container{Name: name, State: state, HostIP: "127.0.0.2", HostPort: 8000, Labels: map[string]string{
					worker.LabelCluster: clusterID, worker.LabelNode: node, worker.LabelService: "acts",
					worker.LabelNumber: "1", worker.LabelGeneration: "1", worker.LabelCreated: "1",
				}})
				h.start()
				h.elapse(soon)
				h.wantRow(1, fsm.Running, "")
				h.wantContainers(name + "=running")
				if h.engine.starts != 1 {
					t.Errorf("%d starts", h.engine.starts)
				}
			})
		}
	}
}

// A newer row's container on another node of this engine is never removed.
func TestNewerNameIsNotTouched(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		name := h.name(1)
		h.engine.plant(worker.Container{Name: name, State: "running", Labels: map[string]string{
			worker.LabelCluster: clusterID, worker.LabelNode: "n2", worker.LabelService: "acts",
			worker.LabelNumber: "1", worker.LabelGeneration: "1", worker.LabelCreated: "999",
		}})
		h.start()
		h.elapse(soon)
		h.wantRow(1, fsm.Stopped, "is taken on n1")
		h.wantContainers(name + "=running")
	})
}

// A container that the engine cannot end keeps the node from being ready, and
// keeps nothing else from being reported.
func TestStuckContainer(t *testing.T) {
	inBubble(t, func(h *home) {
		h.place(1, "n1", 8000)
		h.start()
		h.elapse(soon)
		h.stop()
		old := h.name(1)
		h.engine.with(func() { h.engine.stuck[old] = true })
		h.relaunch(1, "n1", 8001)
		now := h.row(1)
		h.engine.plant(worker.Container{Name: h.name(1), State: "running", HostIP: "127.0.0.1", HostPort: 8001, Labels: map[string]string{
			worker.LabelCluster: clusterID, worker.LabelNode: "n1", worker.LabelService: "acts", worker.LabelNumber: "1",
			worker.LabelGeneration: fmt.Sprint(now.Generation), worker.LabelCreated: fmt.Sprint(now.Created),
		}})
		h.start()
		h.elapse(10 * time.Second)
		h.wantRow(1, fsm.Running, "")
		if h.w.Ready() {
			t.Error("ready while an older generation runs")
		}
		if n := h.logs.count("container killed"); n != 1 {
			t.Errorf("its end was logged %d times", n)
		}
		h.engine.with(func() { clear(h.engine.stuck) })
		h.elapse(3 * time.Second)
		h.wantContainers(h.name(1) + "=running")
		if !h.w.Ready() {
			t.Error("not ready")
		}
	})
}
