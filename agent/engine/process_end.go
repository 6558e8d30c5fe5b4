package engine

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Limits of ending a process.
const (
	// endInterval is the wait between looks at an adopted process that is to end.
	endInterval = 5 * time.Millisecond
	// killLimit bounds the wait for a killed process: only one that hangs in the
	// kernel (a dead disk) takes longer.
	killLimit = 10 * time.Second
)

// Kill ends a container at once, paused or not, and removes it; one that is gone
// is success.
func (p *Process) Kill(ctx context.Context, id string) error {
	c, err := p.find(id)
	if err != nil {
		return nil
	}
	return p.kill(ctx, c)
}

func (p *Process) kill(ctx context.Context, c *child) error {
	if proc, runs := p.running(c); runs {
		proc.killGroup()
		if !p.ended(ctx, c, killLimit) {
			return fmt.Errorf("kill %s: process %d does not end", c.Name, proc.Pid)
		}
	}
	p.forget(c)
	return nil
}

// Stop sends SIGTERM, after grace SIGKILL, and removes the container; one that is
// gone is success.
func (p *Process) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := p.find(id)
	if err != nil {
		return nil
	}
	if proc, runs := p.running(c); runs {
		proc.signal(syscall.SIGTERM)
		proc.signal(syscall.SIGCONT) // a paused one hears nothing else
		p.ended(ctx, c, grace)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stop %s: %w", c.Name, context.Cause(ctx))
	}
	return p.kill(ctx, c)
}

// Replace ends and removes the container old, whatever its state, and runs s,
// which may take over its port. Where s is refused, old is gone all the same.
func (p *Process) Replace(ctx context.Context, old string, s Spec) (Container, error) {
	if err := p.Kill(ctx, old); err != nil {
		return Container{}, fmt.Errorf("replace %.12s: %w", old, err)
	}
	return p.Run(ctx, s)
}

// running gives the process of a container that has one.
func (p *Process) running(c *child) (process, bool) {
	p.settle(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.Process, c.State == stateRunning
}

// ended waits for a container's end.
func (p *Process) ended(ctx context.Context, c *child, limit time.Duration) bool {
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(endInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return true
		case <-ctx.Done():
			return false
		case <-late.C:
			return false
		case <-tick.C:
			p.settle(c)
		}
	}
}

// forget removes what is left of a container.
func (p *Process) forget(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.list[c.ID]; !ok {
		return // somebody else did
	}
	delete(p.list, c.ID)
	// The record goes last: while it is there, its files have an owner.
	for _, path := range append(logFiles(c.logPath(p.cfg.Dir), c.LogMaxFiles), c.path(p.cfg.Dir)) {
		_ = os.Remove(path)
	}
	p.hub.tell(c.event("destroy"))
}
