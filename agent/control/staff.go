package control

import (
	"cmp"
	"slices"
	"time"

	"orch/fsm"
)

// staff is the rows of one service that are to be running, now or again soon.
type staff struct {
	service fsm.Service
	wanted  int
	highest int // number, of all rows
	// kept are the rows with the lowest ports, as many as are wanted; extra the others,
	// by port, the highest first. A stand-in is kept only where there are no others.
	kept, extra []fsm.Container
	// wrong are those kept that have to begin anew: of an older build, or on a node that
	// shall have none or has been dead for long, or that moves. They are in the order in which they shall.
	wrong []fsm.Container
	// standIns are the extra rows that are as they should be.
	standIns []fsm.Container
	// renewing counts those kept that drain to begin anew; fresh those that have done so,
	// or have been placed, and have not been healthy yet; young the fresh ones that still
	// may be, for one that is not for long is no reason to wait; busy the young ones that
	// are as they should be.
	renewing, fresh, young, busy int
	// proven: some row of the newest build is healthy.
	proven bool
}

// staffOf sorts the rows of a service; mover is the row that shall go to another node
// though nothing is wrong with it.
func staffOf(v *fsm.State, sv fsm.Service, mover move, now int64) staff {
	s := staff{service: sv, wanted: sv.Decision.Desired}
	if sv.Removing {
		s.wanted = 0
	}
	var rows []fsm.Container
	for _, row := range v.Rows(sv.Name) {
		s.highest = max(s.highest, row.Number)
		if row.Desired == fsm.Running || row.NextNode != "" {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, standInsLast)
	n := min(s.wanted, len(rows))
	s.kept, s.extra = rows[:n], rows[n:]
	slices.Reverse(s.extra)
	newest := sv.Newest().Build
	amiss := func(row fsm.Container) bool {
		n, _ := v.Node(row.Node)
		return row.Build != newest || n.Leaving() || reaped(n, now) || mover.is(row)
	}
	for _, row := range rows {
		s.proven = s.proven || row.Build == newest && row.Status && row.Desired == fsm.Running
	}
	for _, row := range s.kept {
		if row.NextNode != "" {
			s.renewing++
			continue
		}
		if amiss(row) {
			s.wrong = append(s.wrong, row)
		}
		if row.Proven || row.Status {
			continue
		}
		s.fresh++
		if now-row.Began < time.Duration(sv.Spec.Rollout.HealthyWithin).Milliseconds() {
			s.young++
			if !amiss(row) {
				s.busy++
			}
		}
	}
	for _, row := range s.extra {
		if row.NextNode == "" && !amiss(row) {
			s.standIns = append(s.standIns, row)
		}
	}
	slices.SortStableFunc(s.wrong, func(a, b fsm.Container) int { return cmp.Or(compareBool(a.Status, b.Status), byPort(a, b)) })
	return s
}

// standInsLast: by port, then stand-ins by age. Once the range of ports has been gone
// through, a stand-in may have a low one.
func standInsLast(a, b fsm.Container) int {
	if a.StandIn && b.StandIn {
		return cmp.Compare(a.Created, b.Created)
	}
	return cmp.Or(compareBool(a.StandIn, b.StandIn), byPort(a, b))
}

func byPort(a, b fsm.Container) int { return cmp.Compare(a.Port, b.Port) }

// compareBool: false comes first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// standing is how many stand-ins there shall be: one for each row that begins anew,
// and no more than may at once.
func (s staff) standing() int {
	return min(max(1, s.service.Spec.Rollout.Parallel), len(s.wrong)+s.renewing)
}

func healthy(rows []fsm.Container) int {
	n := 0
	for _, row := range rows {
		if row.Status {
			n++
		}
	}
	return n
}
