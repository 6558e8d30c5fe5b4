package engine

import (
	"context"
	"fmt"
	"sync"
)

// names lets one operation at a time run under a container's name: of two Runs at
// once the second must find what the first started, not remove it half-made.
type names struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits for the name; the caller must call unlock.
func (n *names) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		n.mu.Lock()
		busy, taken := n.held[name]
		if !taken {
			if n.held == nil {
				n.held = map[string]chan struct{}{}
			}
			done := make(chan struct{})
			n.held[name] = done
			n.mu.Unlock()
			return func() {
				n.mu.Lock()
				delete(n.held, name)
				n.mu.Unlock()
				close(done)
			}, nil
		}
		n.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another operation on %s: %w", name, context.Cause(ctx))
		}
	}
}
