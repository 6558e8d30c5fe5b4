package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"orch/fsm"
)

// Action is one command that a plan asks for, and why.
type Action struct {
	Command fsm.Command
	Reason  string
}

// bounded cuts a plan to what one pass may do; the rest comes with the next.
func bounded(plan []Action) []Action { return plan[:min(len(plan), maxActions)] }

// do proposes actions in order. A refusal means that the table has moved on since
// the plan was made: the next pass sees it. Any other error ends this pass, and
// the term too once nothing has been committed for commitLimit.
func (t *term) do(ctx context.Context, plan []Action) error {
	for _, a := range plan {
		if answered, err := t.propose(ctx, a); !answered {
			return err
		}
	}
	return nil
}

// propose commits one action; answered says that the table has taken or refused it.
func (t *term) propose(ctx context.Context, a Action) (answered bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	what := commandName(a.Command)
	limited, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	switch _, err := t.prop.Propose(limited, a.Command); {
	case err == nil:
		t.committed()
		t.metrics.actions.WithLabelValues(what, "done").Inc()
		t.cfg.Logger.Debug("action", "command", what, "reason", a.Reason)
		return true, nil
	case refused(err):
		t.committed()
		t.metrics.actions.WithLabelValues(what, "refused").Inc()
		t.cfg.Logger.Debug("action refused", "command", what, "reason", err)
		return true, nil
	case ctx.Err() != nil:
		return false, nil
	default:
		t.metrics.actions.WithLabelValues(what, "failed").Inc()
		return false, t.uncommitted(err)
	}
}

func (t *term) committed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failing = time.Time{}
}

// uncommitted notes a command that was not committed; it is an error once that has
// lasted.
func (t *term) uncommitted(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failing.IsZero() {
		t.failing = time.Now()
		t.cfg.Logger.Warn("command not committed; trying again", "reason", err)
	}
	if lasting := time.Since(t.failing); lasting >= commitLimit {
		return fmt.Errorf("nothing committed for %s: %w", lasting.Round(time.Millisecond), err)
	}
	return nil
}

// refused says whether err is the table's own answer.
func refused(err error) bool {
	for _, refusal := range []error{
		fsm.ErrStale, fsm.ErrNoSuchService, fsm.ErrNoSuchRow, fsm.ErrNoSuchNode, fsm.ErrExists, fsm.ErrPortInUse,
		fsm.ErrAddrInUse, fsm.ErrNodeInUse, fsm.ErrNodeDown, fsm.ErrOutOfRange, fsm.ErrForeign,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func commandName(c fsm.Command) string {
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", c), "fsm."))
}
