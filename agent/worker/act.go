package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orch/fsm"
)

// Bounds of one operation. A time-out is the engine's fault, not the row's.
const (
	runTimeout  = 30 * time.Second // a static image starts in 0.2 s; a busy disk may take ten
	killTimeout = 15 * time.Second
	// orphanGrace is the time between SIGTERM and SIGKILL of an orphan: nobody
	// sends it requests any more.
	orphanGrace = 2 * time.Second
	// proposeTimeout bounds one report: three elections of the lan profile. A leader
	// whose machine is gone answers never; its successor does at the next try.
	proposeTimeout = 2 * time.Second
	// slowStart is when a start is worth a report of its own; most are over by then.
	slowStart = time.Second
	// portRetry is the wait before a taken port is tried again, where the leader
	// has not chosen another.
	portRetry = 5 * time.Second
)

// errSuperseded ends an operation that the table wants no more.
var errSuperseded = errors.New("superseded by a newer order")

// begin starts an operation for a row; w.mu is held.
func (w *Worker) begin(ctx context.Context, k key, m *memo, row *fsm.Container, t table, a action) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.op = &operation{verb: a.verb, starts: a.run, version: m.version, cancel: cancel}
	w.running++
	if a.run {
		w.starts++
	}
	var spec fsm.Spec // that of the row's build: the service may have another by now
	if row != nil {
		sv, _ := t.view.Service(row.Service)
		spec = sv.SpecOf(*row)
	}
	w.ops.Go(func() {
		err := w.act(ctx, k, m, row, spec, a)
		cause := context.Cause(ctx)
		cancel(nil)
		w.metrics.action(a.verb, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running--
		if a.run {
			w.starts--
		}
		m.op = nil
		w.settle(k, m, a, err, cause)
		w.wake()
	})
}

// settle notes how an operation ended. Trouble is logged when it begins and ends.
func (w *Worker) settle(k key, m *memo, a action, err, cause error) {
	switch {
	case err == nil && m.failures > 0:
		w.log.Info("done after trouble", "service", k.service, "number", k.number, "action", string(a.verb), "failures", m.failures)
		fallthrough
	case err == nil:
		m.failures, m.notBefore = 0, time.Time{}
	case cause != nil: // superseded, or this node stops
	default:
		m.failures++
		m.notBefore = time.Now().Add(backoff(m.failures))
		if m.failures == 1 {
			w.log.Warn("will be tried again", "service", k.service, "number", k.number, "action", string(a.verb), "reason", err)
		}
	}
}

// act does the parts of an action in order and stops at the first that fails: a
// report says only what is done.
func (w *Worker) act(ctx context.Context, k key, m *memo, row *fsm.Container, spec fsm.Spec, a action) error {
	said := a.report
	if a.verb == report && said != nil {
		if err := w.tell(ctx, m, *said); err != nil {
			return err
		}
		said = nil
	}
	grace := orphanGrace
	if row != nil {
		grace = time.Duration(spec.Grace)
	}
	if err := w.clear(ctx, k, m, a, grace); err != nil {
		return err
	}
	if a.run {
		var err error
		if said, err = w.run(ctx, m, *row, spec); err != nil {
			return err
		}
	}
	if said != nil {
		if err := w.tell(ctx, m, *said); err != nil {
			return err
		}
	}
	for _, c := range a.sweep {
		if err := w.kill(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// clear ends what is to be gone.
func (w *Worker) clear(ctx context.Context, k key, m *memo, a action, grace time.Duration) error {
	say := func(what string, c Container) {
		if m.failures == 0 {
			w.logEnd(k, c, what, a.reason)
		}
	}
	for _, c := range a.kill {
		say("container killed", c)
		if err := w.kill(ctx, c); err != nil {
			return err
		}
	}
	for _, c := range a.stop {
		say("container stopping", c)
		if err := w.stop(ctx, c, grace); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) logEnd(k key, c Container, what, reason string) {
	w.log.Info(what, "service", k.service, "number", k.number, "container", c.Name, "state", c.State, "reason", reason)
}

func (w *Worker) kill(ctx context.Context, c Container) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := w.engine.Kill(ctx, c.ID); err != nil {
		return fmt.Errorf("kill container %s: %w", c.Name, err)
	}
	return nil
}

func (w *Worker) stop(ctx context.Context, c Container, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+killTimeout)
	defer cancel()
	if err := w.engine.Stop(ctx, c.ID, grace); err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return nil
}

// run starts a row's container and returns what there is to report. An error
// means that nothing is known of the row: the engine did not answer.
func (w *Worker) run(ctx context.Context, m *memo, row fsm.Container, s fsm.Spec) (*fsm.Observe, error) {
	said := &fsm.Observe{Node: row.Node, Service: row.Service, Number: row.Number, Generation: row.Generation, Created: row.Created, Phase: row.Observed}
	spec, err := w.spec(row, s)
	if err == nil {
		var c Container
		if c, err = w.create(ctx, row, spec); err == nil {
			m.started, m.taken = true, ""
			w.log.Info("container started", "service", row.Service, "number", row.Number, "generation", row.Generation, "port", row.Port)
			said.Phase, said.LocalAddr = fsm.Running, c.Addr
			if !c.alive() {
				said.Phase, said.LocalAddr, said.Reason = fsm.Stopped, "", endOf(c)
			}
			return said, nil
		}
	}
	switch why := w.judge(ctx, row, err); {
	case why.again:
		return nil, err
	case why.taken:
		again := m.taken == why.reason
		m.taken, m.tryAt = why.reason, time.Now().Add(portRetry)
		said.PortTaken, said.Reason = true, why.reason
		if again {
			return said, nil
		}
	default:
		m.ended = why.reason
		said.Phase, said.Reason = fsm.Stopped, why.reason
	}
	w.log.Warn("container not started", "service", row.Service, "number", row.Number, "generation", row.Generation, "reason", said.Reason)
	return said, nil
}

// create asks the engine, clears a name that a stale container of this cluster
// holds, and reports Starting where it takes long.
func (w *Worker) create(ctx context.Context, row fsm.Container, spec Spec) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	slow, end := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() {
		if row.Observed == fsm.Pending && pause(slow, slowStart) {
			// A report that fails is no loss: the next one says more.
			_, _ = w.propose.Propose(slow, fsm.Observe{Node: row.Node, Service: row.Service, Number: row.Number, Generation: row.Generation, Created: row.Created, Phase: fsm.Starting})
		}
	})
	c, err := w.engine.Run(ctx, spec)
	if err != nil && w.cfg.Classify(err) == NameTaken && w.clearName(ctx, row, spec.Name) {
		c, err = w.engine.Run(ctx, spec)
	}
	end()
	telling.Wait()
	return c, err
}

// clearName removes a container of this cluster that bears the name of row's but
// belongs to an older row of that number, on a node that shares this engine. It
// says whether there was one.
func (w *Worker) clearName(ctx context.Context, row fsm.Container, name string) bool {
	labels := w.rowLabels(row)
	delete(labels, LabelNode)
	delete(labels, LabelCreated)
	list, err := w.engine.List(ctx, labels)
	if err != nil {
		return false
	}
	for _, c := range list {
		if v := versionOf(c); c.Name == name && v.created < row.Created {
			w.logEnd(key{row.Service, row.Number}, c, "stale container killed", "it bears the name of a newer row; it was made on "+c.Labels[LabelNode])
			return w.kill(ctx, c) == nil
		}
	}
	return false
}

// verdict is what a failed start means.
type verdict struct {
	again  bool // the engine's fault: the row is not to blame
	taken  bool
	reason string
}

func (w *Worker) judge(ctx context.Context, row fsm.Container, err error) verdict {
	switch w.cfg.Classify(err) {
	case PortTaken:
		return verdict{taken: true, reason: fmt.Sprintf("port %d is taken on %s", row.Port, row.Node)}
	case NoImage:
		return verdict{reason: fmt.Sprintf("image %s does not exist on %s: build or load it there", row.Image, row.Node)}
	case NameTaken:
		return verdict{reason: fmt.Sprintf("name %s is taken on %s by a container that is not ours: remove it there", Name(w.cfg.ClusterID(), row), row.Node)}
	case Unavailable:
		return verdict{again: true}
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return verdict{again: true}
	}
	// An engine that breaks in the middle of a start need not say so.
	if _, lerr := w.list(ctx); lerr != nil {
		return verdict{again: true}
	}
	return verdict{reason: fmt.Sprintf("cannot start on %s: %v", row.Node, err)}
}

// tell proposes a report. One that is refused was overtaken: the view, when it
// catches up, says what is to be done.
func (w *Worker) tell(ctx context.Context, m *memo, o fsm.Observe) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	_, err := w.propose.Propose(ctx, o)
	switch {
	case err == nil:
		w.log.Debug("reported", "service", o.Service, "number", o.Number, "generation", o.Generation, "phase", o.Phase, "reason", o.Reason)
	case errors.Is(err, fsm.ErrStale) || errors.Is(err, fsm.ErrNoSuchRow):
		w.log.Debug("report overtaken", "service", o.Service, "number", o.Number, "reason", err)
	default:
		return fmt.Errorf("report %s/%d as %s: %w", o.Service, o.Number, o.Phase, err)
	}
	m.sent, m.sentAt = o, time.Now()
	if o.Phase == fsm.Stopped && err == nil {
		m.ended = o.Reason
	}
	return nil
}
