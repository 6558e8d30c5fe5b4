package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orch/fsm"
)

// health is the loop that probes every container each interval, and proposes the
// verdicts and relaunches that follow. One goroutine owns the watches.
type health struct {
	*term
	watches map[rowKey]*watch
	results chan result
	busy    int // probes and questions on their way; each sends one result
	round   uint64
	began   time.Time // of this round
	polled  bool      // the first round of the term has been noted
	tasks   sync.WaitGroup
}

// result of a probe, or of a question to the owner (asked).
type result struct {
	key   rowKey
	err   error
	owner opinion
	asked bool
}

func newHealth(t *term) *health {
	return &health{term: t, watches: map[rowKey]*watch{}, results: make(chan result, maxProbes)}
}

func (h *health) run(ctx context.Context) error {
	poke, end := h.views.Subscribe()
	defer end()
	// Tasks end with ctx; the channel has room for each of them.
	ctx, cancel := context.WithCancel(ctx)
	defer h.tasks.Wait()
	defer cancel()
	for {
		wait, err := h.pass(ctx)
		if err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-poke:
		case <-timer.C:
		case k := <-h.suspects:
			h.suspected(k)
		case r := <-h.results:
			h.take(r)
		}
		timer.Stop()
		h.drainResults()
	}
}

func (h *health) drainResults() {
	for {
		select {
		case r := <-h.results:
			h.take(r)
		default:
			return
		}
	}
}

// pass brings the watches in step with the table, starts what is due and proposes
// what has been seen. It returns the time until something is due next.
func (h *health) pass(ctx context.Context) (time.Duration, error) {
	now, v := time.Now(), h.views.View()
	h.follow(v, now)
	if now.Sub(h.began) >= h.cfg.Interval {
		h.began = now
		h.round++
	}
	judge(h.watches, now)
	h.start(ctx, v, now)
	stamp := h.cfg.Now()
	plan := planHealth(v, h.observations(), stamp, h.cfg.Jitter())
	if err := h.do(ctx, plan); err != nil {
		return 0, err
	}
	if err := h.notePolled(ctx); err != nil {
		return 0, err
	}
	return h.wait(v, time.Now(), h.cfg.Now()), nil
}

// follow starts to watch new generations at once and forgets old ones.
func (h *health) follow(v *fsm.State, now time.Time) {
	live := make(map[rowKey]bool, len(v.Containers))
	for _, row := range v.Containers {
		if row.Observed != fsm.Running || row.Desired != fsm.Running {
			continue
		}
		k := keyOf(row)
		live[k] = true
		w := h.watches[k]
		if w == nil {
			w = &watch{next: now}
			h.watches[k] = w
		}
		if n, _ := v.Node(row.Node); gone(n.Status) != w.lost {
			w.lost, w.next = !w.lost, now // do its containers live on?
		}
		w.row = row
		w.obs.Was = w.obs.Was || row.Status
	}
	for k := range h.watches {
		if !live[k] {
			delete(h.watches, k)
		}
	}
}

// start begins the probes that are due, and the questions that a verdict waits for.
func (h *health) start(ctx context.Context, v *fsm.State, now time.Time) {
	for _, row := range v.Containers {
		w := h.watches[keyOf(row)]
		if w == nil || w.busy || h.busy >= maxProbes {
			continue
		}
		sv, ok := v.Service(row.Service)
		if !ok {
			continue
		}
		switch question := w.obs.Doubt && !w.obs.Held && w.obs.Owner == unasked && due(row, sv, w.obs, h.cfg.Now()); {
		case question:
			h.task(w, func() result {
				return result{key: keyOf(row), owner: h.ask(ctx, v, row, sv.SpecOf(row)), asked: true}
			})
		case !now.Before(w.next):
			w.again, w.round, w.last = false, h.round, now
			h.task(w, func() result {
				return result{key: keyOf(row), err: h.prober.probe(ctx, h.cfg.DialAddr(v, row), sv.SpecOf(row).Health.Path, h.timeout(sv.Spec))}
			})
		}
	}
}

func (h *health) task(w *watch, run func() result) {
	w.busy = true
	h.busy++
	h.tasks.Go(func() { h.results <- run() })
}

// ask has the owner probe a row. The leader's own rows it probes once more itself.
func (h *health) ask(ctx context.Context, v *fsm.State, row fsm.Container, s fsm.Spec) opinion {
	ctx, cancel := context.WithTimeout(ctx, h.timeout(s)+opinionSpare)
	defer cancel()
	if row.Node == h.cfg.Node {
		if h.prober.probe(ctx, h.cfg.DialAddr(v, row), s.Health.Path, h.timeout(s)) != nil {
			return agrees
		}
		return disagrees
	}
	switch err := h.peers.ProbeFrom(ctx, row.Node, row); {
	case err == nil:
		return disagrees
	case errors.Is(err, ErrUnhealthy):
		return agrees
	}
	return silent
}

func (h *health) take(r result) {
	h.busy--
	w := h.watches[r.key]
	if w == nil {
		return
	}
	w.busy = false
	if r.asked {
		w.obs.Owner = r.owner
		h.cfg.Logger.Info("second opinion", "service", r.key.service, "number", r.key.number, "owner", w.row.Node, "agrees", r.owner == agrees, "answered", r.owner != silent, "reason", w.obs.Reason)
		return
	}
	now := time.Now()
	starting := !w.obs.Was && w.row.Since+startLimit(h.views.View(), w.row) > h.cfg.Now()
	news := w.take(r.err, now, h.began.Add(h.cfg.Interval), starting, w.row.Node == h.cfg.Node)
	verdict := "healthy"
	if r.err != nil {
		verdict = "failing"
	}
	h.metrics.probes.WithLabelValues(verdict).Inc()
	if news {
		h.cfg.Logger.Info("probe changed", "service", r.key.service, "number", r.key.number, "owner", w.row.Node, "verdict", verdict, "reason", w.obs.Reason)
	}
	if w.again {
		w.next = now
	}
}

// suspected makes a row due, though not more often than quickProbe.
func (h *health) suspected(k rowKey) {
	w := h.watches[k]
	if w == nil {
		return
	}
	w.again = w.busy
	if soon := w.last.Add(quickProbe); soon.Before(w.next) {
		w.next = soon
	}
}

func (h *health) observations() map[rowKey]observation {
	out := make(map[rowKey]observation, len(h.watches))
	for k, w := range h.watches {
		out[k] = w.obs
	}
	return out
}

// wait is the time until a probe is due, a hold or a back-off ends, or the next
// round begins.
func (h *health) wait(v *fsm.State, now time.Time, stamp int64) time.Duration {
	next := h.began.Add(h.cfg.Interval)
	soonest := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for _, w := range h.watches {
		if !w.busy && h.busy < maxProbes {
			soonest(w.next)
		}
		if w.obs.Held {
			soonest(w.held)
		}
	}
	for _, row := range v.Containers {
		if row.RetryAt > stamp {
			soonest(now.Add(time.Duration(row.RetryAt-stamp) * time.Millisecond))
		}
	}
	return max(0, next.Sub(now))
}

// notePolled writes down, once a term, that the leader has probed every container
// that runs: until then what it shows is its predecessor's word. Before there is a
// cluster nothing is written: its ID is the first thing in the log.
func (h *health) notePolled(ctx context.Context) error {
	if h.polled || h.views.View().ClusterID == "" {
		return nil
	}
	for _, w := range h.watches {
		if !w.obs.Probed {
			return nil
		}
	}
	note := fsm.Note{
		ID: fmt.Sprintf("polled-%s-%d", h.cfg.Node, h.term.began), What: "polled", Node: h.cfg.Node,
		Reason: fmt.Sprintf("the new leader has probed every container once: %d", len(h.watches)),
	}
	answered, err := h.propose(ctx, Action{note, "first round"})
	h.polled = answered
	return err
}
