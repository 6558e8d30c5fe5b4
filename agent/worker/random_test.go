package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"orch/agent/worker"
	"orch/fsm"
)

// watched is an engine that looks after what must hold at every moment: one
// living container a number, no generation started twice in one life of the
// daemon, and none ever that was reported before.
type watched struct {
	*memory
	h *home
}

func (w watched) Run(ctx context.Context, s worker.Spec) (worker.Container, error) {
	for _, r := range w.h.store.View().Containers {
		same := worker.Name(clusterID, r) == s.Name && s.Labels[worker.LabelCreated] == fmt.Sprint(r.Created)
		if same && r.Observed != fsm.Pending && r.Observed != fsm.Starting {
			w.h.t.Errorf("%s is started after it was reported as %s", s.Name, r.Observed)
		}
	}
	return w.memory.Run(ctx, s)
}

func (w watched) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	living := map[string]string{}
	for _, b := range w.all {
		id := b.Labels[worker.LabelNumber]
		if other, twice := living[id]; twice && holds(b.Container) {
			w.h.t.Errorf("number %s is held by %s and %s", id, other, b.Name)
		}
		if holds(b.Container) {
			living[id] = b.Name
		}
	}
	for name, n := range w.started {
		if n > 1 {
			w.h.t.Errorf("%s was started %d times", name, n)
		}
	}
}

// TestRandomLife: whatever the leader orders, the engine suffers and people do by
// hand, once it is quiet the containers are the rows, and each row says so.
func TestRandomLife(t *testing.T) {
	const lives, steps = 40, 60
	for seed := range uint64(lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(h *home) {
				r := rand.New(rand.NewPCG(seed, 1))
				e := watched{h.engine, h}
				h.startWith(e)
				for range steps {
					h.disturb(r, e)
					h.elapse(time.Duration(r.IntN(400)) * time.Millisecond)
					e.check()
				}
				h.engine.breakDown(false)
				h.engine.with(func() { h.engine.deaf = false; clear(h.engine.taken) })
				h.setLeader(true)
				h.elapse(time.Minute)
				e.check()
				h.wantMatch()
			})
		})
	}
}

// disturb does one thing that may happen to a node.
func (h *home) disturb(r *rand.Rand, e watched) {
	number := r.IntN(4) + 1
	row, there := h.store.View().Container("acts", number)
	port := 8000 + r.IntN(6)
	container := func(do func(id string)) {
		h.engine.with(func() {
			if b := h.engine.find(worker.Name(clusterID, row)); there && b != nil {
				do(b.ID)
			}
		})
	}
	switch r.IntN(15) {
	case 0, 1:
		h.commit(fsm.Place{Service: "acts", Number: number, Node: "n1", Port: port})
	case 2, 3:
		h.commit(fsm.Relaunch{Row: row.Row(), Node: "n1", Port: row.Port})
	case 4:
		h.commit(fsm.Relaunch{Row: row.Row(), Node: "n" + strconv.Itoa(r.IntN(2)+1), Port: port})
	case 5:
		h.commit(fsm.Drain{Row: row.Row()})
	case 6:
		h.commit(fsm.Stop{Row: row.Row()})
	case 7:
		container(func(id string) { h.engine.end(id, 137, "") })
	case 8:
		container(func(id string) { h.engine.end(id, 137, ""); h.engine.remove(id) })
	case 9:
		h.engine.breakDown(r.IntN(2) == 0)
	case 10:
		h.setLeader(r.IntN(3) > 0)
	case 11:
		h.stop()
		h.engine.with(func() { clear(h.engine.started) })
		h.startWith(e)
	case 12:
		h.engine.with(func() { h.engine.deaf = r.IntN(2) == 0; h.engine.slow[worker.Name(clusterID, row)] = 3 * time.Second })
	case 13:
		h.engine.with(func() {
			h.engine.lag = time.Duration(r.IntN(3)) * 30 * time.Millisecond
			h.engine.linger = time.Duration(r.IntN(3)) * 200 * time.Millisecond
		})
	case 14:
		h.engine.with(func() {
			h.engine.rude[worker.Name(clusterID, row)] = true
			h.engine.taken[fmt.Sprintf("127.0.0.1:%d", port)] = r.IntN(2) == 0
		})
	}
}

// wantMatch: every row of this node is what its container is, and nothing else
// lives.
func (h *home) wantMatch() {
	h.t.Helper()
	var want []string
	for _, row := range h.store.View().RowsOn("n1") {
		switch {
		case row.Desired == fsm.Stopped:
			h.t.Errorf("acts/%d was not stopped", row.Number)
		case row.Observed == fsm.Running:
			want = append(want, worker.Name(clusterID, row)+"=running")
		case row.Observed != fsm.Stopped:
			h.t.Errorf("acts/%d is still %s", row.Number, row.Observed)
		}
	}
	left := map[string]bool{}
	for _, n := range want {
		left[n] = true
	}
	for _, n := range h.engine.names() {
		if !left[n] && strings.HasSuffix(n, "=running") {
			h.t.Errorf("%s has no row", n)
		}
		delete(left, n)
	}
	for n := range left {
		h.t.Errorf("%s is missing", n)
	}
}
