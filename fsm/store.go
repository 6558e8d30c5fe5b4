package fsm

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Store holds the newest state, applies commands to it in the order of the log
// and tells readers. One goroutine applies (Raft's); any number read.
type Store struct {
	current atomic.Pointer[State]

	mu      sync.Mutex
	advance chan struct{} // closed and replaced at each apply
	pokes   map[chan struct{}]struct{}
	fatal   error
}

// NewStore returns a store with an empty state.
func NewStore() *Store {
	s := &Store{advance: make(chan struct{}), pokes: map[chan struct{}]struct{}{}}
	s.current.Store(&State{})
	return s
}

// View returns the newest state. It never blocks.
func (s *Store) View() *State { return s.current.Load() }

// Apply decodes and applies one log entry. The result is the command's value or
// its refusal (an error). An entry that cannot be decoded stops this store: see
// Fatal.
func (s *Store) Apply(index, term uint64, data []byte) any {
	if err := s.Fatal(); err != nil {
		return err
	}
	stamp, c, err := Decode(data)
	if err != nil {
		err = fmt.Errorf("log entry %d: %w", index, err)
		s.mu.Lock()
		s.fatal = err
		s.mu.Unlock()
		s.poke(true)
		return err
	}
	old := s.View()
	next, result, err := Apply(old, index, term, stamp, c)
	s.current.Store(next)
	s.poke(next.Changed != old.Changed)
	if err != nil {
		return err
	}
	return result
}

// Fatal returns why this store can apply nothing more, or nil. A node whose
// store is fatal must stop: going on would be to diverge.
func (s *Store) Fatal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fatal
}

// Poke has subscribers look again, where they read more than this store.
func (s *Store) Poke() { s.poke(true) }

func (s *Store) poke(changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.advance)
	s.advance = make(chan struct{})
	if !changed {
		return
	}
	for ch := range s.pokes {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Subscribe returns a channel that gets a poke after the table has changed
// (turns and counts do not poke), and a function that ends it. Subscribe first,
// then read the view: no change is lost between.
func (s *Store) Subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.pokes[ch] = struct{}{}
	s.mu.Unlock()
	return ch, func() {
		s.mu.Lock()
		delete(s.pokes, ch)
		s.mu.Unlock()
	}
}

// Wait returns the state once index has been applied, or ctx's error.
func (s *Store) Wait(ctx context.Context, index uint64) (*State, error) {
	for {
		s.mu.Lock()
		next, fatal := s.advance, s.fatal
		s.mu.Unlock()
		if v := s.View(); v.Applied >= index {
			return v, nil
		}
		if fatal != nil {
			return nil, fatal
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for index %d (applied is %d): %w", index, s.View().Applied, context.Cause(ctx))
		}
	}
}

// Snapshot returns a function that writes the state of this moment.
func (s *Store) Snapshot() func(io.Writer) error {
	v := s.View()
	return func(w io.Writer) error { return WriteSnapshot(w, v) }
}

// Restore replaces the state by a snapshot; where it fails the old one stays.
func (s *Store) Restore(r io.Reader) error {
	next, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	s.current.Store(next)
	s.poke(true)
	return nil
}
