package worker

import (
	"fmt"
	"time"

	"orch/fsm"
)

// verb is what an action is for, in logs and metrics.
type verb string

const (
	rest   verb = ""       // nothing to do
	report verb = "report" // tell the leader what is there
	start  verb = "start"  // run the row's container, in place of older ones
	stop   verb = "stop"   // end the row's container as ordered
	reap   verb = "reap"   // end what no row stands for
)

// action is what one row needs. Its parts are done in this order; only where the
// verb is report does the report come first, since it then says what is there
// whatever becomes of the rest.
type action struct {
	verb   verb
	reason string
	kill   []Container // at once, before a run: they may hold its port or name
	stop   []Container // with grace
	run    bool
	report *fsm.Observe
	sweep  []Container // ended already: only their remains go
	at     time.Time   // look again then; zero is the next pass
}

// input is all that a plan is made from.
type input struct {
	row     *fsm.Container // nil: no row of this node
	present []Container    // this node's containers of that number
	memo    memo
	needed  map[int]bool  // ports of this node's rows
	blocked bool          // another container of ours still holds the row's port
	fresh   bool          // this process has not reconciled yet
	patient time.Duration // how long an orphan is left alone
	now     time.Time
}

// plan says what a row needs. It is a pure function.
func plan(in input) action {
	if in.row == nil {
		return planOrphans(in)
	}
	if in.row.Desired == fsm.Stopped {
		return planStop(in)
	}
	return planRow(in)
}

// planOrphans ends containers without a row: at once where they are in the way or
// have ended; at the start, when the view is caught up, without the patience.
func planOrphans(in input) action {
	a := action{verb: reap, reason: "no row of this node stands for it"}
	due := in.memo.orphanSince.Add(in.patient)
	for _, c := range in.present {
		switch {
		case !c.alive():
			a.sweep = append(a.sweep, c)
		case in.needed[c.HostPort]:
			a.kill = append(a.kill, c)
			a.reason = fmt.Sprintf("it holds port %d, which is a row's of this node", c.HostPort)
		case in.fresh || !in.now.Before(due):
			a.stop = append(a.stop, c)
		default:
			a.at = due
		}
	}
	if len(a.kill)+len(a.stop)+len(a.sweep) == 0 {
		a.verb = rest
	}
	return a
}

// sort splits a row's containers: the one of this very version, and the others,
// ended or not. One that somebody is removing may still hold its port.
func (in input) sort() (current *Container, living, ended []Container) {
	for _, c := range in.present {
		switch {
		case current == nil && versionOf(c) == versionOfRow(in.row):
			current = &c
		case c.alive() || c.State == stateRemoving:
			living = append(living, c)
		default:
			ended = append(ended, c)
		}
	}
	return current, living, ended
}

func planStop(in input) action {
	current, living, ended := in.sort()
	a := action{verb: stop, reason: "as ordered", kill: living, sweep: ended}
	switch {
	case current == nil:
	case current.State == statePaused || !current.alive():
		a.kill = append(a.kill, *current)
	default:
		a.stop = []Container{*current}
	}
	why := in.memo.ended
	if why == "" {
		why = "stopped as ordered"
	}
	if in.row.Observed != fsm.Stopped {
		a.report = in.observe(fsm.Stopped, why)
	}
	return a.orRest(in)
}

func planRow(in input) action {
	r, m := in.row, in.memo
	current, living, ended := in.sort()
	a := action{verb: reap, reason: "an older generation", kill: living, sweep: ended}
	if current != nil && current.State == stateCreated && beforeRunning(r.Observed) {
		// Left by a daemon that ended between its creation and its start.
		a.kill, current = append(a.kill, *current), nil
	}
	switch {
	case current == nil:
		a = planMissing(in, a)
	case current.over() && r.Observed != fsm.Stopped:
		a.verb, a.report = report, in.observe(fsm.Stopped, endOf(*current))
	case current.over():
		// Reported. It stays for its logs until the next generation.
	case r.Observed == fsm.Stopped || m.ended != "":
		a.kill = append(a.kill, *current)
		a.reason = "this generation was reported as stopped; the next one is the leader's"
	case r.Observed != fsm.Running || r.LocalAddr != current.Addr && current.State == stateRunning:
		a.verb, a.report = report, in.observe(fsm.Running, "")
		a.report.LocalAddr = current.Addr
	}
	return a.orRest(in)
}

// planMissing: there is no container of this version.
func planMissing(in input, a action) action {
	r, m := in.row, in.memo
	why := ""
	switch {
	case r.Observed == fsm.Stopped:
		return a
	case m.ended != "":
		why = m.ended
	case r.Observed == fsm.Running || m.started:
		why = "removed from outside"
	case r.Desired == fsm.Draining:
		why = "it was to be drained before it was started"
	}
	switch {
	case why != "":
		a.verb, a.report = report, in.observe(fsm.Stopped, why)
	case m.taken != "" && !r.PortTaken:
		a.verb, a.report = report, in.observe(r.Observed, m.taken)
		a.report.PortTaken = true
	case m.taken != "" && in.now.Before(m.tryAt):
		a.at = m.tryAt
	case in.blocked:
		// Its holder is being ended; the end of that wakes the next pass.
	default:
		a = a.begin(in)
	}
	return a
}

// begin turns a into a start.
func (a action) begin(in input) action {
	a.verb, a.reason, a.run = start, fmt.Sprintf("generation %d takes its place", in.row.Generation), true
	return a
}

// orRest drops a report that was accepted a moment ago, and an action without
// work.
func (a action) orRest(in input) action {
	if a.report != nil && *a.report == in.memo.sent {
		if until := in.memo.sentAt.Add(sentPatience); in.now.Before(until) {
			a.report, a.at = nil, until
		}
	}
	if len(a.kill)+len(a.stop)+len(a.sweep) == 0 && !a.run && a.report == nil {
		a.verb = rest
	}
	return a
}

func (in input) observe(p fsm.Phase, reason string) *fsm.Observe {
	r := in.row
	return &fsm.Observe{Node: r.Node, Service: r.Service, Number: r.Number, Generation: r.Generation, Created: r.Created, Phase: p, Reason: reason}
}

func beforeRunning(p fsm.Phase) bool { return p == fsm.Pending || p == fsm.Starting }

// over: its process has ended, whether or not what it held is free.
func (c Container) over() bool { return !c.alive() || c.State == stateDying }

// endOf says in one line how a container ended.
func endOf(c Container) string {
	what := fmt.Sprintf("exit code %d", c.ExitCode)
	switch {
	case c.State == stateRemoving:
		what = "removed from outside"
	case c.State == stateCreated:
		what = "it was never started"
	case c.ExitCode < 0:
		what = "it ended"
	}
	if c.Reason != "" {
		what += ": " + c.Reason
	}
	return what
}
