package control

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// errLost ends a term whose leadership is gone.
var errLost = errors.New("leadership lost")

// Run leads whenever leadership says so, until ctx ends or the channel is closed.
// It is the channel's only reader. A second true without a false between means
// that leadership was lost and regained: the term ends and another begins.
func (c *Control) Run(ctx context.Context, leadership <-chan bool) error {
	defer c.prober.close()
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads, open := <-leadership:
			stop()
			stop = func() {}
			if !open {
				return nil
			}
			if leads {
				stop = c.begin(ctx)
			}
		}
	}
}

// begin starts to lead; the function it returns ends that and waits until all of
// it has returned.
func (c *Control) begin(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.lead(ctx)
	}()
	return func() {
		cancel(errLost)
		<-ended
	}
}

// lead runs a term. One that fails moves leadership to another node; where that
// cannot be, this node still leads, and tries again after a pause.
func (c *Control) lead(ctx context.Context) {
	c.metrics.leading.Set(1)
	defer c.metrics.leading.Set(0)
	log := c.cfg.Logger
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		log.Info("leading")
		began := time.Now()
		err := c.term(ctx)
		if time.Since(began) > lastPause {
			pause = firstPause // it went well for a while
		}
		if ctx.Err() != nil {
			log.Info("no longer leading", "reason", context.Cause(ctx))
			return
		}
		c.metrics.failed.Inc()
		log.Error("a loop of the leader failed; leadership moves", "reason", err)
		move, cancel := context.WithTimeout(ctx, transferTimeout)
		err = c.voters.Transfer(move, "")
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Error("leadership not moved; this node tries again", "reason", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// term is one term of leadership, and all that lasts no longer than it.
type term struct {
	*Control
	began uint64 // index applied after the barrier

	mu      sync.Mutex
	failing time.Time // since when nothing could be committed; zero if something was
}

// loop is one of the leader's tasks. Its error ends the term.
type loop struct {
	name string
	run  func(context.Context) error
}

// loops lists all that a leader does.
func (t *term) loops() []loop {
	return []loop{
		{"health", newHealth(t).run},
		{"scale", t.scale},
		{"rows", t.rows},
		{"drain", t.drain},
		{"nodes", newRoll(t).run},
	}
}

func (c *Control) term(ctx context.Context) error {
	barrier, cancel := context.WithTimeout(ctx, barrierTimeout)
	err := c.prop.Barrier(barrier)
	cancel()
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	t := &term{Control: c, began: c.views.View().Applied}
	c.leading.Store(true)
	defer t.end()
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range t.loops() {
		g.Go(func() error { return guard(ctx, l) })
	}
	return g.Wait()
}

// end forgets the hints that were meant for this term.
func (t *term) end() {
	t.leading.Store(false)
	for {
		select {
		case <-t.suspects:
		default:
			return
		}
	}
}

// guard names the loop in its error, and turns a panic into one: a fault of the
// leader's must not take down the node's proxy.
func guard(ctx context.Context, l loop) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("loop %s: panic: %v\n%s", l.name, p, debug.Stack())
		}
	}()
	if err := l.run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("loop %s: %w", l.name, err)
	}
	return nil
}

// every runs pass now, then after each poke of the table or kick, and when the
// time that pass returned is over, until ctx ends or pass fails.
func (t *term) every(ctx context.Context, kick func() <-chan struct{}, pass func(context.Context) (time.Duration, error)) error {
	poke, end := t.views.Subscribe()
	defer end()
	for {
		wait, err := pass(ctx)
		if err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-poke:
		case <-kick():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func noKick() <-chan struct{} { return nil }
