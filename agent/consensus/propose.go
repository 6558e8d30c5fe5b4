package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// enqueueLimit bounds how long a proposal waits to be taken by the leader's
	// main loop; beyond it the loop is stuck or hopelessly behind.
	enqueueLimit = 2 * time.Second
	// maxInflight bounds the proposals under way: half a second's worth at the
	// measured 12,000 a second of small batches.
	maxInflight = 8192
)

// Propose adds a command to the log and returns what the Machine answered and
// the index, once a majority has it and this node has applied it. Only the
// leader can. The errors that are definite are ErrNotLeader, ErrFenced,
// ErrTooLarge, ErrBusy, ErrClosed and the Machine's own; ErrUnknown is a
// perhaps. When ctx ends, Propose returns ErrUnknown at once. data is kept: it
// must not be changed afterwards.
func (n *Node) Propose(ctx context.Context, data []byte) (result any, index uint64, err error) {
	if len(data) > MaxCommand {
		return nil, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxCommand)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err // nothing has been sent
	}
	var f raft.ApplyFuture
	err = n.await(ctx, func(r *raft.Raft) raft.Future {
		f = r.Apply(data, enqueueLimit)
		return f
	})
	if err != nil {
		return nil, 0, err
	}
	if refusal, ok := f.Response().(error); ok {
		return nil, f.Index(), refusal
	}
	return f.Response(), f.Index(), nil
}

// Barrier returns when everything that was committed before it is applied here.
// A new leader calls it before it trusts its state: leadership is announced
// before the log of earlier terms has been applied.
func (n *Node) Barrier(ctx context.Context) error {
	if err := n.await(ctx, func(r *raft.Raft) raft.Future { return r.Barrier(enqueueLimit) }); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	return nil
}

// await runs one request to Raft and waits for its outcome, for ctx, or for the
// fence, whichever is first. start is called on another goroutine; what it sets
// may be read when await returns nil.
func (n *Node) await(ctx context.Context, start func(*raft.Raft) raft.Future) error {
	raised := n.fence.up()
	select {
	case <-raised:
		_, reason, _ := n.fence.state()
		return fmt.Errorf("%w (%s)", ErrFenced, reason)
	default:
	}
	if err := n.inflight.enter(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer n.inflight.leave()
		err := start(n.raft.Load()).Error()
		n.watching.transfer.note(err)
		done <- err
	}()
	select {
	case err := <-done:
		return outcome(err)
	case <-raised:
		// Not ErrFenced too: that one is definite.
		return fmt.Errorf("%w: the node was fenced meanwhile", ErrUnknown)
	case <-ctx.Done():
		return gaveUp(ctx)
	}
}

// inflight counts requests under way, so that Close can wait for them: Raft
// forgets what stands in its queue when it shuts down.
type inflight struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when closed and n is 0
}

func (i *inflight) init() { i.idle = make(chan struct{}) }

func (i *inflight) enter() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return ErrClosed
	}
	if i.n >= maxInflight {
		return fmt.Errorf("%w: %d", ErrBusy, i.n)
	}
	i.n++
	return nil
}

func (i *inflight) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n--
	if i.closed && i.n == 0 {
		close(i.idle)
	}
}

// close refuses new requests and waits for the others until ctx ends.
func (i *inflight) close(ctx context.Context) {
	i.mu.Lock()
	i.closed = true
	if i.n == 0 {
		close(i.idle)
	}
	i.mu.Unlock()
	select {
	case <-i.idle:
	case <-ctx.Done():
	}
}
