package consensus

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Waits between tries of a write that failed. A disk is not freed faster than a
// person or a log rotation can; a second is soon enough to notice.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = time.Second
)

// fence guards every write on which Raft's promises stand. A write that takes
// longer than the limit, or fails, closes the gate of the transport: the others
// hear nothing more of this node and elect another leader. The write is tried
// until it succeeds, and never reported as failed while the node is open: an
// error for a write that may still land would let Raft go on from a state that
// the disk does not have (and Raft panics when it cannot save its term).
type fence struct {
	stall time.Duration
	gate  *gate
	log   *slog.Logger
	poke  chan struct{} // 1-buffered: fenced or lifted

	mu     sync.Mutex
	faults map[*fault]struct{}
	raised chan struct{} // closed while fenced
	since  time.Time
	reason string
	sealed chan struct{} // closed when the node closes
}

// fault is one write that is late or has failed.
type fault struct {
	timer *time.Timer // nil once the write has ended
}

func newFence(stall time.Duration, g *gate, log *slog.Logger) *fence {
	return &fence{
		stall: stall, gate: g, log: log, poke: make(chan struct{}, 1),
		faults: map[*fault]struct{}{}, raised: make(chan struct{}), sealed: make(chan struct{}),
	}
}

// guard runs write until it succeeds. It returns an error only when the fence
// has been sealed, that is when nothing that follows can leave this process.
func (f *fence) guard(what string, write func() error) error {
	w := &fault{}
	f.mu.Lock()
	w.timer = time.AfterFunc(f.stall, func() {
		f.raise(w, fmt.Sprintf("%s has taken longer than %v", what, f.stall))
	})
	f.mu.Unlock()
	defer f.lower(w)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := write()
		if err == nil {
			return nil
		}
		f.raise(w, fmt.Sprintf("%s: %v", what, err))
		select {
		case <-f.sealed:
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(wait):
		}
	}
}

func (f *fence) raise(w *fault, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.timer == nil { // the write has ended meanwhile
		return
	}
	if _, known := f.faults[w]; known {
		return
	}
	f.faults[w] = struct{}{}
	if len(f.faults) > 1 {
		return
	}
	f.since, f.reason = time.Now(), reason
	close(f.raised)
	f.gate.hold()
	f.log.Error("fenced: this node takes no part in decisions until its disk takes writes again; free space or replace the disk", "reason", reason)
	f.wake()
}

func (f *fence) lower(w *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
	if _, known := f.faults[w]; !known {
		return
	}
	delete(f.faults, w)
	if len(f.faults) > 0 {
		return
	}
	f.log.Info("fence lifted: the disk takes writes again", "reason", f.reason, "after", time.Since(f.since).Round(time.Millisecond))
	f.raised = make(chan struct{})
	f.gate.release()
	f.wake()
}

func (f *fence) wake() {
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// up returns a channel that is closed while the fence stands, and until then
// waits for it.
func (f *fence) up() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.raised
}

// state returns why and since when the node is fenced, if it is.
func (f *fence) state() (fenced bool, reason string, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) == 0 {
		return false, "", time.Time{}
	}
	return true, f.reason, f.since
}

func (f *fence) isUp() bool {
	fenced, _, _ := f.state()
	return fenced
}

// seal shuts the gate for good and lets failing writes give up.
func (f *fence) seal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.sealed:
	default:
		f.gate.hold()
		close(f.sealed)
	}
}
