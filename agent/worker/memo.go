package worker

import (
	"context"
	"time"

	"orch/fsm"
)

// sentPatience is how long a report that was accepted is not made again while
// the view does not show it: a follower's view is an idle commit (50 ms) and a
// round trip behind, this is ten of them.
const sentPatience = time.Second

// memo is what the worker remembers of a row between passes. All of it may be
// lost: a restart begins without.
type memo struct {
	version version
	desired fsm.Phase

	adopted bool   // it was found at the start, and logged
	started bool   // it was started here: when missing, it was removed
	ended   string // why this version has ended; it is not started again
	taken   string // its port was found taken
	tryAt   time.Time

	sent   fsm.Observe // last report that was accepted
	sentAt time.Time

	failures  int // of operations, in a row
	notBefore time.Time

	orphanSince time.Time
	op          *operation // under way, or nil
}

// operation is work under way for one row. While there is one, its goroutine
// owns the memo's other fields.
type operation struct {
	verb    verb
	starts  bool
	version version
	cancel  context.CancelCauseFunc
}

// follow begins anew when the row has become another.
func (m *memo) follow(row *fsm.Container) {
	v := versionOfRow(row)
	if m.version != v {
		*m = memo{version: v, orphanSince: m.orphanSince}
	}
	if row != nil && m.desired != row.Desired {
		m.desired, m.failures, m.notBefore = row.Desired, 0, time.Time{}
	}
}

// superseded: what is being done is wanted no more, and in the way of what is.
func (o *operation) superseded(row *fsm.Container) bool {
	if row == nil {
		return o.starts
	}
	return o.version != versionOfRow(row) || o.starts && row.Desired != fsm.Running
}

// forget drops the memos that nothing stands for any more.
func (w *Worker) forget(live func(key) bool) {
	for k, m := range w.memos {
		if m.op == nil && !live(k) {
			delete(w.memos, k)
		}
	}
}

func (w *Worker) memo(k key) *memo {
	m := w.memos[k]
	if m == nil {
		m = &memo{}
		w.memos[k] = m
	}
	return m
}
