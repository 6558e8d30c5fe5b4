package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"orch/fsm"
	"orch/proxy"
)

// takeTimeout bounds one command of turns: two elections of the lan profile. The
// proxy goes on by local turns long before that.
const takeTimeout = 2 * time.Second

// turns takes turns for this node's proxy from the replicated counter.
type turns struct {
	node    string
	propose func(context.Context, fsm.Command) (any, error)
	view    func() *fsm.State
	// epoch tells this life of the daemon from the one before, so that a
	// sequence number that begins anew is not taken for a repeat.
	epoch atomic.Uint64
}

func newTurns(node string, now time.Time, propose func(context.Context, fsm.Command) (any, error), view func() *fsm.State) *turns {
	t := &turns{node: node, propose: propose, view: view}
	t.epoch.Store(uint64(now.UnixNano()))
	return t
}

// Take implements proxy.Turns.
func (t *turns) Take(ctx context.Context, r proxy.TakeRequest) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	c := fsm.TakeTurns{Service: r.Service, Node: t.node, Epoch: t.epoch.Load(), Seq: r.Seq, Count: uint64(r.Count), Served: r.Served}
	result, err := t.propose(ctx, c)
	if errors.Is(err, fsm.ErrStale) {
		// The machine's clock went back over a restart: an older life of this
		// node has a higher epoch. Begin after it.
		if l, ok := t.view().Lease(r.Service, t.node); ok && l.Epoch > c.Epoch {
			t.epoch.CompareAndSwap(c.Epoch, l.Epoch+1)
		}
	}
	if err != nil {
		return 0, err
	}
	from, ok := result.(uint64)
	if !ok {
		return 0, fmt.Errorf("take turns: the leader answered %T, not a turn", result)
	}
	return from, nil
}
