package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"orch/fsm"
)

// Limits of a pass.
const (
	// listTimeout bounds one listing: a hundred containers take under a second.
	listTimeout = 5 * time.Second
	// maxOperations bounds what is under way at once: a node holds tens of rows,
	// and a stop only waits.
	maxOperations = 64
	// maxStarts bounds starts at once: an engine on two cores gets no faster by
	// more than a few at a time.
	maxStarts = 8
)

// table is what one pass looks at: the rows of this node and what is there.
type table struct {
	view    *fsm.State
	rows    map[key]fsm.Container
	present map[key][]Container
	needed  map[int]bool // ports of this node's rows
	now     time.Time
}

// pass lists, compares and begins what is to be done. It returns the time until
// the next pass at the latest, or why the engine could not be asked.
func (w *Worker) pass(ctx context.Context) (time.Duration, error) {
	// What is under way before the listing may make it wrong: such rows wait for
	// the pass that the end of their operation brings.
	busy := w.busy()
	list, err := w.list(ctx)
	if err != nil {
		return 0, err
	}
	w.dying(list, time.Now())
	t := w.look(list)
	w.metrics.pass(len(list))
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := w.cfg.Interval
	settled := true
	for _, k := range sortedKeys(t.rows, t.present) {
		at, done := w.attend(ctx, k, t, busy[k])
		settled = settled && done
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(t.now), passGap))
		}
	}
	w.forget(func(k key) bool {
		_, wanted := t.rows[k]
		return wanted || len(t.present[k]) > 0
	})
	if settled && !w.Ready() {
		w.log.Info("reconciled: what was here is adopted, nothing else runs", "rows", len(t.rows))
		close(w.reconciled)
	}
	return wait, nil
}

func (w *Worker) busy() map[key]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := map[key]bool{}
	for k, m := range w.memos {
		busy[k] = m.op != nil
	}
	return busy
}

func (w *Worker) list(ctx context.Context) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := w.engine.List(ctx, w.labels())
	if err != nil {
		return nil, fmt.Errorf("list this node's containers: %w", err)
	}
	return list, nil
}

// look reads the view after the listing, so that a row is never older than what
// is there.
func (w *Worker) look(list []Container) table {
	t := table{view: w.views.View(), rows: map[key]fsm.Container{}, present: byKey(list), needed: map[int]bool{}, now: time.Now()}
	for _, r := range t.view.RowsOn(w.cfg.Node) {
		k := key{r.Service, r.Number}
		t.rows[k] = r
		t.needed[r.Port] = true
	}
	return t
}

func (t table) row(k key) *fsm.Container {
	if r, ok := t.rows[k]; ok {
		return &r
	}
	return nil
}

// blocked: a living container of another number still holds the row's port.
func (t table) blocked(k key, row *fsm.Container) bool {
	if row == nil {
		return false
	}
	for other, list := range t.present {
		for _, c := range list {
			if other != k && c.HostPort == row.Port && c.alive() {
				return true
			}
		}
	}
	return false
}

// attend plans one row and begins what it needs. It returns when to look again
// and whether nothing is left that Ready must wait for.
func (w *Worker) attend(ctx context.Context, k key, t table, wasBusy bool) (at time.Time, settled bool) {
	m, row := w.memo(k), t.row(k)
	if m.op != nil {
		if m.op.superseded(row) {
			m.op.cancel(errSuperseded)
		}
		return time.Time{}, !holdsReady(m.op.verb)
	}
	if wasBusy {
		w.wake()
		return time.Time{}, false
	}
	m.follow(row)
	w.noteOrphans(k, m, row, t)
	a := plan(input{
		row: row, present: t.present[k], memo: *m, needed: t.needed,
		blocked: t.blocked(k, row), fresh: !w.Ready(), patient: w.cfg.StopOrphansAfter, now: t.now,
	})
	if a.verb == rest {
		w.noteAdopted(k, m, row, t)
		return a.at, true
	}
	if t.now.Before(m.notBefore) {
		return m.notBefore, a.verb != reap
	}
	if w.running >= maxOperations || a.run && w.starts >= maxStarts {
		return time.Time{}, !holdsReady(a.verb) // the end of an operation wakes the next pass
	}
	w.begin(ctx, k, m, row, t, a)
	return a.at, !holdsReady(a.verb)
}

// holdsReady: a node serves when it has said what is there and ended what should
// not be; starts and ordered stops are everyday work.
func holdsReady(v verb) bool { return v == reap || v == report }

// noteAdopted logs what was found alive at the start, once.
func (w *Worker) noteAdopted(k key, m *memo, row *fsm.Container, t table) {
	if row == nil || w.Ready() || m.adopted || m.started {
		return
	}
	for _, c := range t.present[k] {
		if c.alive() {
			m.adopted = true
			w.log.Info("container adopted", "service", k.service, "number", k.number, "generation", row.Generation, "phase", row.Observed)
		}
	}
}

// noteOrphans keeps the time since which a container has had no row, and logs
// each change of mind.
func (w *Worker) noteOrphans(k key, m *memo, row *fsm.Container, t table) {
	orphans := row == nil && slices.ContainsFunc(t.present[k], Container.alive)
	switch {
	case orphans && m.orphanSince.IsZero():
		m.orphanSince = t.now
		w.log.Info("container without a row: it will be stopped", "service", k.service, "number", k.number, "reason", t.whereabouts(k))
	case !orphans && !m.orphanSince.IsZero():
		m.orphanSince = time.Time{}
		if row != nil {
			w.log.Info("container has a row of this node again", "service", k.service, "number", k.number, "generation", row.Generation)
		}
	}
}

func (t table) whereabouts(k key) string {
	if r, ok := t.view.Container(k.service, k.number); ok {
		return fmt.Sprintf("generation %d is on %s", r.Generation, r.Node)
	}
	return "its row is gone"
}
