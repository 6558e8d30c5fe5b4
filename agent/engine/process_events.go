package engine

import (
	"context"
	"sync"
	"time"
)

// hub hands events to those who asked for them; a reader that is too slow loses
// some and is told so.
type hub struct {
	mu   sync.Mutex
	subs map[*subscriber]struct{}
}

type subscriber struct {
	labels map[string]string
	in     chan Event
	lost   bool // hub.mu
}

// tell never waits.
func (h *hub) tell(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if !hasLabels(e.Labels, s.labels) {
			continue
		}
		select {
		case s.in <- e:
		default:
			s.lost = true
		}
	}
}

// missed says, once, whether s has lost events.
func (h *hub) missed(s *subscriber) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := s.lost
	s.lost = false
	return was
}

// Events returns the events of the containers that have all labels; a reader that
// was too slow for some gets a Resync event. The channel is closed when ctx ends.
func (p *Process) Events(ctx context.Context, labels map[string]string) <-chan Event {
	h := &p.hub
	s := &subscriber{labels: labels, in: make(chan Event, eventBuffer)}
	h.mu.Lock()
	if h.subs == nil {
		h.subs = map[*subscriber]struct{}{}
	}
	h.subs[s] = struct{}{}
	h.mu.Unlock()
	out := make(chan Event)
	go func() {
		defer close(out)
		defer func() {
			h.mu.Lock()
			delete(h.subs, s)
			h.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-s.in:
				send(ctx, out, e)
			}
			if h.missed(s) {
				send(ctx, out, Event{Kind: Resync, At: time.Now()})
			}
		}
	}()
	return out
}
