// Package worker makes the containers of this node match the rows of this node.
// The row is the order: there is no call from the leader that starts or stops
// anything. It owns every container that bears this cluster's and this node's
// labels, and reports what it sees of them through Observe commands.
//
// It promises: at most one operation at a time for each row, so that a slow one
// delays no other; a generation that has ended is never started again; while the
// engine cannot be asked, nothing is reported as stopped; containers outlive the
// daemon and are adopted by their labels; what no row stands for is stopped, at
// the start before Ready. A full pass each interval is the truth, events and
// changes of the table only wake it early.
//
// It never chooses a node, a port or a number, never relaunches, never probes,
// and never touches a container without both labels, other than a stale one of
// this cluster that holds a name this node's row needs.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/fsm"
)

// Defaults and limits of the worker's loop.
const (
	// DefaultInterval is the time between full passes: what a lost event costs.
	DefaultInterval = 2 * time.Second
	// DefaultStopOrphansAfter is how long a container without a row is left alone:
	// its last requests end in that time.
	DefaultStopOrphansAfter = 10 * time.Second
	// passGap is the least time between two passes, so that a storm of events
	// costs at most a hundred listings a second.
	passGap = 10 * time.Millisecond
	// enterInterval is the wait between looks for a cluster at the start.
	enterInterval = 100 * time.Millisecond
	// retryFirst and retryMost bound the back-off after an engine or a leader that
	// did not answer: half of an election first, an interval at most.
	retryFirst = 150 * time.Millisecond
	retryMost  = 2 * time.Second
)

// Config is what a worker is told at its start.
type Config struct {
	Node      string // ID of this node, as in the rows
	HostIP    string // address that containers are published on
	Proxy     string // host:port of this node's proxy, told to containers
	VolumeDir string // absolute; a service's volume is a folder below it
	// ClusterID is empty until this node is in a cluster.
	ClusterID func() string
	// CaughtUp returns once the view holds all that was committed when it was
	// called. The worker touches nothing before.
	CaughtUp func(context.Context) error
	// Reveal opens the secret values of a spec; nil is for specs without.
	Reveal func(fsm.Spec) (map[string]string, error)
	// Classify says what an error of the engine means.
	Classify func(error) Cause

	StopOrphansAfter time.Duration // 0: DefaultStopOrphansAfter
	Interval         time.Duration // 0: DefaultInterval
	Logger           *slog.Logger
	Registry         prometheus.Registerer // nil: no metrics
}

// Views gives the newest table and a poke when it has changed.
type Views interface {
	View() *fsm.State
	Subscribe() (<-chan struct{}, func())
}

// Proposer commits a command, through the leader where this node does not lead.
type Proposer interface {
	Propose(ctx context.Context, c fsm.Command) (any, error)
}

// Worker reconciles this node's containers with its rows.
type Worker struct {
	cfg     Config
	views   Views
	propose Proposer
	engine  Engine
	log     *slog.Logger
	metrics *metrics

	kick       chan struct{} // 1-buffered
	reconciled chan struct{} // closed once this process has reconciled
	ops        sync.WaitGroup
	trouble    impairment

	mu      sync.Mutex
	memos   map[key]*memo
	deaths  map[string]death // by container ID
	running int              // operations under way
	starts  int              // of these, starts
}

// New returns a worker that does nothing until Run.
func New(cfg Config, views Views, propose Proposer, engine Engine) *Worker {
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.StopOrphansAfter <= 0 {
		cfg.StopOrphansAfter = DefaultStopOrphansAfter
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Worker{
		cfg: cfg, views: views, propose: propose, engine: engine,
		log:  cfg.Logger.With("node", cfg.Node),
		kick: make(chan struct{}, 1), reconciled: make(chan struct{}),
		memos: map[key]*memo{}, deaths: map[string]death{},
	}
	w.metrics = newMetrics(w)
	return w
}

// Run reconciles until ctx ends, and returns nil when all it started has ended.
// The containers go on running. It may be called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.metrics.register(w.cfg.Registry); err != nil {
		return err
	}
	defer w.metrics.unregister(w.cfg.Registry)
	ctx, cancel := context.WithCancel(ctx)
	pokes, unsubscribe := w.views.Subscribe()
	defer unsubscribe()
	if !w.enter(ctx) {
		cancel()
		return nil
	}
	w.ops.Go(func() { w.watch(ctx) })
	w.loop(ctx, pokes)
	cancel()
	w.ops.Wait()
	return nil
}

// Ready says whether this process has adopted what was there and stopped what no
// row stands for.
func (w *Worker) Ready() bool {
	select {
	case <-w.reconciled:
		return true
	default:
		return false
	}
}

// Reconciled is closed when Ready turns true.
func (w *Worker) Reconciled() <-chan struct{} { return w.reconciled }

// enter waits until this node is in a cluster and knows its newest table. It
// returns false when ctx ended first.
func (w *Worker) enter(ctx context.Context) bool {
	for w.cfg.ClusterID() == "" {
		if !pause(ctx, enterInterval) {
			return false
		}
	}
	for n := 1; ; n++ {
		err := w.cfg.CaughtUp(ctx)
		if err == nil {
			return true
		}
		if n == 1 && ctx.Err() == nil {
			w.log.Warn("containers are left as they are until the newest table is known", "reason", err)
		}
		if !pause(ctx, backoff(n)) {
			return false
		}
	}
}

func (w *Worker) loop(ctx context.Context, pokes <-chan struct{}) {
	failures := 0
	var last time.Time
	for ctx.Err() == nil {
		if gap := passGap - time.Since(last); gap > 0 {
			pause(ctx, gap)
		}
		wait, err := w.pass(ctx)
		w.trouble.note(ctx, w.log, err)
		if err != nil {
			failures++
			pause(ctx, backoff(failures))
			continue
		}
		failures, last = 0, time.Now()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pokes:
		case <-w.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// watch turns the engine's events into kicks. A stream that has ended is opened
// again, and what it may have lost is looked for.
func (w *Worker) watch(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		for e := range w.engine.Events(ctx, w.labels()) {
			n = 1
			w.hear(e)
			w.wake()
		}
		pause(ctx, backoff(n))
		w.wake()
	}
}

func (w *Worker) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// backoff is the wait after the n-th failure in a row, from 1, with jitter.
func backoff(n int) time.Duration {
	d := min(retryFirst<<min(n-1, 8), retryMost)
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and says whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// impairment is why the engine cannot be asked, and since when.
type impairment struct {
	mu     sync.Mutex
	reason string
	since  time.Time
}

// note logs the change only. An engine that is not waited for has not failed.
func (i *impairment) note(ctx context.Context, log *slog.Logger, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err != nil && i.reason == "":
		i.since = time.Now()
		log.Error("the container engine does not answer: containers are left as they are; start it, or look at its log", "reason", err)
	case err == nil && i.reason != "":
		log.Info("the container engine answers again", "after", time.Since(i.since).Round(time.Millisecond))
	}
	i.reason = ""
	if err != nil {
		i.reason = fmt.Sprint(err)
	}
}

// Impaired returns why this node cannot look after its containers and since
// when; an empty reason is none.
func (w *Worker) Impaired() (reason string, since time.Time) {
	w.trouble.mu.Lock()
	defer w.trouble.mu.Unlock()
	if w.trouble.reason == "" {
		return "", time.Time{}
	}
	return w.trouble.reason, w.trouble.since
}
