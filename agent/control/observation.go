package control

import (
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

// opinion is what the owner says of a row that the leader finds failing.
type opinion int

const (
	unasked opinion = iota
	agrees
	disagrees
	silent // it could not be asked
)

// observation is what this term has seen of one generation by its own probes. Its
// zero value is "not probed yet", on which nothing is decided.
type observation struct {
	Probed  bool
	Healthy bool
	// Was: this generation has been healthy once, so that failing means something.
	Was      bool
	Failures int    // in a row
	Reason   string // of the last failure
	// Held: too early to judge the last failure.
	Held bool
	// Doubt: the fault may be the leader's own, so the owner is asked first. Mass:
	// because most rows fail.
	Doubt, Mass bool
	Owner       opinion
}

// watch is one generation under observation.
type watch struct {
	row   fsm.Container
	obs   observation
	next  time.Time // when it is due
	last  time.Time // when the last probe began
	held  time.Time // until when its failure is held
	busy  bool      // a probe or a question is on its way
	again bool      // suspected while busy
	lost  bool      // its node is dead
	round uint64    // of the probe on its way
	// result is the round of the newest result.
	result uint64
}

// take notes the result of a probe; nextRound is when the next round begins, own
// says that the row is the leader's. It reports whether the row began or ceased to
// fail.
func (w *watch) take(err error, now, nextRound time.Time, starting, own bool) (news bool) {
	w.result = w.round
	old := w.obs
	if err == nil {
		w.obs = observation{Probed: true, Healthy: true, Was: true}
		w.next = nextRound
		return old.Was && old.Failures > 0
	}
	w.obs = observation{Probed: true, Was: old.Was, Failures: old.Failures + 1, Reason: err.Error(), Held: true}
	w.held = now
	pe, _ := err.(*probeError)
	if pe == nil || !pe.answered {
		w.held = now.Add(settle)
	}
	w.obs.Doubt = pe != nil && pe.unconnected && !own
	w.next = nextRound
	if starting {
		w.next = now.Add(quickProbe)
	}
	return w.obs.Was && w.obs.Failures == 1
}

// judge ends the hold of failures whose time has come. In a round in which most
// rows that were healthy fail, each failure is in doubt.
func judge(watches map[rowKey]*watch, now time.Time) {
	for _, w := range watches {
		if !w.obs.Held || now.Before(w.held) {
			continue
		}
		finished, failed := 0, 0
		for _, o := range watches {
			if !o.obs.Was || !o.obs.Probed || o.result < w.result {
				continue
			}
			finished++
			if !o.obs.Healthy {
				failed++
			}
		}
		w.obs.Held = false
		w.obs.Mass = w.obs.Was && finished >= massMinimum && failed*2 > finished
		w.obs.Doubt = w.obs.Doubt || w.obs.Mass
	}
}
