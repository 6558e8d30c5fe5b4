package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"orch/fsm"
)

// rowKey names one generation of a row.
type rowKey struct {
	service    string
	number     int
	generation uint64
}

func keyOf(c fsm.Container) rowKey { return rowKey{c.Service, c.Number, c.Generation} }

// observation is what this term has seen of one generation by its own probes.
type observation struct {
	Healthy  bool
	Failures int    // in a row
	Reason   string // of the last failure
	// Certain is true where the container itself said so, or its node agrees.
	Certain bool
}

// health holds the observations of one term.
type health struct {
	mu   sync.Mutex
	seen map[rowKey]observation
}

func newHealth() *health { return &health{seen: map[rowKey]observation{}} }

func (h *health) snapshot() map[rowKey]observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[rowKey]observation, len(h.seen))
	for k, v := range h.seen {
		out[k] = v
	}
	return out
}

// record returns whether the verdict is news.
func (h *health) record(k rowKey, err error, certain bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, known := h.seen[k]
	if err == nil {
		h.seen[k] = observation{Healthy: true, Certain: true}
		return !known || !old.Healthy
	}
	h.seen[k] = observation{Failures: old.Failures + 1, Reason: err.Error(), Certain: certain}
	return true
}

func (h *health) forget(k rowKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.seen, k)
}

// poll keeps one watcher for each generation that runs, until ctx ends.
func (c *Control) poll(ctx context.Context, h *health) error {
	poke, end := c.views.Subscribe()
	defer end()
	type watcher struct {
		cancel context.CancelFunc
		kick   chan struct{}
	}
	watchers := map[rowKey]watcher{}
	slots := make(chan struct{}, maxProbes)
	var wg sync.WaitGroup
	defer wg.Wait()
	polled := false
	for {
		view := c.views.View()
		live := map[rowKey]bool{}
		for _, row := range view.Containers {
			if row.Observed != fsm.Running {
				continue
			}
			k := keyOf(row)
			live[k] = true
			if _, ok := watchers[k]; ok {
				continue
			}
			wctx, cancel := context.WithCancel(ctx)
			w := watcher{cancel, make(chan struct{}, 1)}
			watchers[k] = w
			wg.Go(func() { c.watch(wctx, h, k, slots, w.kick) })
		}
		for k, w := range watchers {
			if !live[k] {
				w.cancel()
				delete(watchers, k)
				h.forget(k)
			}
		}
		if !polled && len(h.snapshot()) >= len(live) {
			polled = true
			c.note(ctx, view, "polled", len(live))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-c.polledYet(polled):
		case s := <-c.suspect:
			if w, ok := watchers[rowKey(s)]; ok {
				select {
				case w.kick <- struct{}{}:
				default:
				}
			}
		}
	}
}

// polledYet ticks until the first round of a term is through.
func (c *Control) polledYet(polled bool) <-chan time.Time {
	if polled {
		return nil
	}
	return time.After(startProbe)
}

// watch probes one generation: often until it first answers, then each interval,
// and at once when somebody suspects it.
func (c *Control) watch(ctx context.Context, h *health, k rowKey, slots chan struct{}, kick <-chan struct{}) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		case <-kick:
		}
		view := c.views.View()
		row, ok := view.Container(k.service, k.number)
		sv, has := view.Service(k.service)
		if !ok || !has || row.Generation != k.generation {
			return
		}
		began := time.Now()
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err, certain := c.examine(ctx, view, row, sv.Spec)
		<-slots
		if ctx.Err() != nil {
			return
		}
		if h.record(k, err, certain) {
			c.poke()
		}
		interval := c.cfg.Interval
		if !row.Status && err != nil {
			interval = startProbe
		}
		wait.Reset(max(0, interval-time.Since(began)))
	}
}

// examine probes a row; where nothing answers at all, its node is asked for a
// second opinion, so that one bad link relaunches nothing.
func (c *Control) examine(ctx context.Context, view *fsm.State, row fsm.Container, s fsm.Spec) (err error, certain bool) {
	err = c.prober.Probe(ctx, c.cfg.DialAddr(view, row), s.Health.Path, time.Duration(s.Health.Timeout))
	if err == nil || !errors.Is(err, errSilent) {
		return err, true
	}
	if row.Node == c.cfg.Node || !row.Status {
		return err, row.Node == c.cfg.Node
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.Health.Timeout)+secondOpinion)
	defer cancel()
	second := c.peers.ProbeFrom(ctx, row.Node, row)
	if second == nil {
		return nil, true
	}
	return err, errors.Is(second, ErrUnhealthy)
}

// secondOpinion is the time for the question's own way, beside the probe's.
const secondOpinion = 250 * time.Millisecond

// ErrUnhealthy is what Peers.ProbeFrom wraps when the owner has probed and agrees.
var ErrUnhealthy = errors.New("unhealthy")
