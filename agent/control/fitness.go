package control

import (
	"context"
	"sync"
	"time"

	"orch/fsm"
)

// fitness is whether a member of Raft can acknowledge what the leader writes: gossip
// takes it for alive, its API answers, its disk takes writes, the leader's heartbeats
// reach it by its own word and by the leader's, and what it has applied moves with the leader's. Its zero value is "not
// known yet", which counts as not.
type fitness struct {
	Fit     bool
	For     time.Duration // without a break, as far as this term has looked
	Applied uint64
}

// everybody is fit: what would be done if it were so.
func everybody(list []Voter) map[string]fitness {
	out := map[string]fitness{}
	for _, m := range list {
		out[m.ID] = fitness{Fit: true, For: time.Hour}
	}
	return out
}

// form is what this term has seen of a member's fitness.
type form struct {
	goal    uint64    // index that it is to reach next
	set     time.Time // since when it is to
	applied uint64
	since   time.Time // since when it has been fit; zero while it is not
}

// note takes a member's report; leader is what the leader had applied before it asked.
func (f *form) note(r Report, silent bool, leader uint64, now time.Time) {
	f.applied = r.Applied
	if f.goal == 0 {
		f.goal, f.set = leader, now
	}
	reached := r.Applied >= f.goal
	switch {
	case r.Fenced || r.NoLeader || silent:
		f.since = time.Time{}
	case reached && f.since.IsZero():
		f.since = now
	case !reached && now.Sub(f.set) >= lagLimit:
		f.since = time.Time{}
	}
	if reached {
		f.goal, f.set = leader, now
	}
}

// assess asks the members how they are, all at once. The leader itself is fit: a
// fence would have ended its term.
func (r *roll) assess(ctx context.Context, v *fsm.State, list []Voter) map[string]fitness {
	silent, old := r.voters.Silent(), r.forms
	r.forms = map[string]*form{}
	out := map[string]fitness{r.cfg.Node: {Fit: true, For: time.Hour, Applied: v.Applied}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range list {
		n, ok := v.Node(m.ID)
		if m.ID == r.cfg.Node || !ok || n.Status != fsm.NodeAlive && n.Status != fsm.NodeDraining {
			continue
		}
		f := old[m.ID]
		if f == nil {
			f = &form{}
		}
		r.forms[m.ID] = f
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reportTimeout)
			defer cancel()
			report, err := r.peers.Report(ctx, m.ID)
			now := time.Now()
			if err != nil {
				f.since = time.Time{}
				return
			}
			_, unheard := silent[m.ID]
			f.note(report, unheard, v.Applied, now)
			mu.Lock()
			defer mu.Unlock()
			out[m.ID] = fitness{Fit: !f.since.IsZero(), For: now.Sub(f.since), Applied: f.applied}
		})
	}
	wg.Wait()
	return out
}
