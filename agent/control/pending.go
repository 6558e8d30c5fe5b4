package control

import (
	"cmp"
	"fmt"
	"slices"

	"orch/fsm"
)

// Pending is something that will happen by itself.
type Pending struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
	DueMS  int64  `json:"due_in_ms"`
}

// Upcoming says what will happen next and when, as any node can tell from its
// view: back-offs, drains, and the next scale-down.
func Upcoming(v *fsm.State, now int64) []Pending {
	out := []Pending{}
	for _, row := range v.Containers {
		name := fmt.Sprintf("%s/%d", row.Service, row.Number)
		switch {
		case row.Desired == fsm.Draining:
			out = append(out, Pending{"stop " + name, row.Reason, max(0, row.DrainDeadline-now)})
		case row.RetryAt > 0 && !row.Status:
			out = append(out, Pending{"relaunch " + name, row.Reason, max(0, row.RetryAt-now)})
		}
	}
	for _, sv := range v.Services {
		if p, ok := scaleDown(sv, now); ok {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Pending) int { return cmp.Compare(a.DueMS, b.DueMS) })
	return out
}

// scaleDown finds the second at which a service will shrink if no request comes.
func scaleDown(sv fsm.Service, now int64) (Pending, bool) {
	if sv.Manual != 0 || sv.Removing || sv.Decision.Desired <= sv.Spec.Scale.Min {
		return Pending{}, false
	}
	horizon := (int64(sv.Spec.Scale.Window) + int64(sv.Spec.Scale.Cooldown)) / 1e9
	for s := int64(1); s <= horizon+1; s++ {
		if d := desired(sv, now+s*1000); d.Desired < sv.Decision.Desired {
			return Pending{
				What:   fmt.Sprintf("scale %s from %d to %d", sv.Name, sv.Decision.Desired, d.Desired),
				Reason: "fewer requests, unless more come", DueMS: s * 1000,
			}, true
		}
	}
	return Pending{}, false
}
