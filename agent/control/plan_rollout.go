package control

import (
	"fmt"
	"slices"
	"time"

	"orch/fsm"
)

// keepsDying is how many relaunches of a row that has been healthy, none for long, say
// that its build is no good: the third waits 2 s already.
const keepsDying = 3

// planRollout says of each service's newest revision that it has become good, or goes
// back to the last good one when a container of it does not become healthy in time.
func planRollout(v *fsm.State, now int64) []Action {
	var plan []Action
	for _, sv := range v.Services {
		newest := sv.Newest()
		if sv.Removing || newest.Number == 0 || newest.Outcome == fsm.Good {
			continue
		}
		s := staffOf(v, sv, move{}, now)
		if s.rolledOut(newest) {
			why := fmt.Sprintf("%d containers are of it and healthy", len(s.kept))
			plan = append(plan, Action{fsm.EndRollout{Service: sv.Name, Revision: newest.Number, Outcome: fsm.Good, Reason: why}, why})
			continue
		}
		why, bad := failing(v, sv, now)
		if !bad || newest.Outcome != fsm.Rolling {
			continue
		}
		if back, ok := sv.LastGood(); ok && newest.From == 0 {
			plan = append(plan, Action{fsm.RollBack{Service: sv.Name, Left: newest.Number, To: back.Number, Failed: true, By: "orchd", Reason: why}, why})
			continue
		}
		plan = append(plan, Action{fsm.EndRollout{Service: sv.Name, Revision: newest.Number, Outcome: fsm.Failed, Reason: why}, why})
	}
	return bounded(plan)
}

// noStandIn says why no stand-in has a place, without which no row may begin anew; empty
// where one has, or where one is there already.
func noStandIn(v *fsm.State, s staff) string {
	for _, row := range s.kept {
		if row.StandIn {
			return ""
		}
	}
	p := newPlacing(v)
	if _, ok := p.node(""); !ok {
		return "it waits for a node that is alive and not drained: start one, or 'orchctl undrain' one"
	}
	if p.port(firstPort) == 0 {
		return fmt.Sprintf("it waits for a free port of %d to %d: scale a service down", firstPort, fsm.MaxPort)
	}
	return ""
}

// rolledOut: as many rows as are wanted, all of the newest build and healthy.
func (s staff) rolledOut(newest fsm.Revision) bool {
	for _, row := range s.kept {
		if row.Build != newest.Build || !row.Status || row.Desired != fsm.Running {
			return false
		}
	}
	return s.wanted > 0 && len(s.kept) == s.wanted
}

// tried says whether a build has been rolled out to the end once: what happens to its
// rows after that is not its fault.
func tried(sv fsm.Service, build uint64) bool {
	return slices.ContainsFunc(sv.Revisions, func(r fsm.Revision) bool { return r.Build == build && r.Outcome == fsm.Good })
}

// failing finds a row that shows a service's newest build to be no good; no row of a node
// that is lost does.
func failing(v *fsm.State, sv fsm.Service, now int64) (why string, bad bool) {
	newest := sv.Newest()
	if tried(sv, newest.Build) {
		return "", false
	}
	within := time.Duration(sv.Spec.Rollout.HealthyWithin)
	for _, row := range v.Rows(sv.Name) {
		n, _ := v.Node(row.Node)
		if row.Build != newest.Build || row.Desired != fsm.Running || row.Status || n.Status != fsm.NodeAlive {
			continue
		}
		switch {
		case !row.Proven && now-row.Began >= within.Milliseconds():
			return fmt.Sprintf("%s/%d on %s was not healthy within %s: %s", row.Service, row.Number, row.Node, within, orNothing(row.Reason)), true
		case row.Proven && row.Failures >= keepsDying:
			return fmt.Sprintf("%s/%d on %s keeps dying: %s", row.Service, row.Number, row.Node, orNothing(row.Reason)), true
		}
	}
	return "", false
}

func orNothing(reason string) string {
	if reason == "" {
		return "its node has not said why"
	}
	return reason
}

// upcomingRollout says how far a roll-out is, and when it goes back. The first one of
// a service is told by its rows.
func upcomingRollout(v *fsm.State, sv fsm.Service, now int64) (Pending, bool) {
	newest := sv.Newest()
	if sv.Removing || newest.Outcome != fsm.Rolling && newest.Outcome != fsm.Failed || newest.Number <= 1 {
		return Pending{}, false
	}
	s := staffOf(v, sv, move{}, now)
	of := 0
	for _, row := range s.kept {
		if row.Build == newest.Build && row.Status {
			of++
		}
	}
	p := Pending{What: fmt.Sprintf("roll out %s revision %d", sv.Name, newest.Number), DueMS: waiting}
	p.Reason = fmt.Sprintf("%d of %d containers are of it and healthy", of, s.wanted)
	if newest.From != 0 {
		p.What = fmt.Sprintf("roll %s back to what revision %d was", sv.Name, newest.From)
		p.Reason += "; " + newest.Why
	}
	if newest.Outcome == fsm.Failed {
		p.Reason = newest.Reason + "; there is no good revision to go back to: apply a better one"
		if newest.From != 0 {
			p.Reason = newest.Reason + "; it was chosen by hand, and is not left by itself: apply a better one, or choose another of `orchctl history " + sv.Name + "`"
		}
		return p, true
	}
	if why := noStandIn(v, s); why != "" && of < s.wanted {
		p.Reason += "; " + why
	}
	back, ok := sv.LastGood()
	if !ok || newest.From != 0 || tried(sv, newest.Build) {
		return p, true
	}
	for _, row := range v.Rows(sv.Name) {
		left := row.Began + time.Duration(sv.Spec.Rollout.HealthyWithin).Milliseconds() - now
		if row.Build == newest.Build && row.Desired == fsm.Running && !row.Proven && left > 0 && (p.DueMS == waiting || left < p.DueMS) {
			p.DueMS = left
			p.What = fmt.Sprintf("roll %s back from revision %d to %d", sv.Name, newest.Number, back.Number)
			p.Reason = fmt.Sprintf("unless %s/%d is healthy by then (%s)", sv.Name, row.Number, orNothing(row.Reason))
		}
	}
	return p, true
}
