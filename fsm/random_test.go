package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func snapshotBytes(t interface{ Fatal(...any) }, s *State) []byte {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sameContent compares two states leaving out where in the log they stand.
func sameContent(t interface{ Fatal(...any) }, a, b *State) bool {
	x, y := *a, *b
	x.Applied, x.Term, y.Applied, y.Term = 0, 0, 0, 0
	return bytes.Equal(snapshotBytes(t, &x), snapshotBytes(t, &y))
}

// TestEqualLogsGiveEqualBytes: two stores that apply one log, one of them restored
// from a snapshot somewhere on the way, hold equal bytes.
func TestEqualLogsGiveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		one, two := NewStore(), NewStore()
		at := roll(t, len(log)) + 1
		for i, e := range log {
			data, err := Encode(e.stamp, e.cmd)
			if err != nil {
				t.Fatal(err)
			}
			one.Apply(uint64(i+1), 1, data)
			two.Apply(uint64(i+1), 1, data)
			if i+1 == at {
				fresh := NewStore()
				if err := fresh.Restore(bytes.NewReader(snapshotBytes(t, two.View()))); err != nil {
					t.Fatal(err)
				}
				two = fresh
			}
		}
		for _, s := range []*State{two.View(), states[len(states)-1]} {
			if a, b := snapshotBytes(t, one.View()), snapshotBytes(t, s); !bytes.Equal(a, b) {
				t.Fatalf("states differ:\n%s\n%s", a, b)
			}
		}
	})
}

// TestCommandTwiceIsOnce: applying any command again changes nothing, and gives the
// same value or a refusal.
func TestCommandTwiceIsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		for i, e := range log {
			once, first, err := Apply(states[i], uint64(i+1), 1, e.stamp, e.cmd)
			twice, second, again := Apply(once, uint64(i+2), 1, e.stamp, e.cmd)
			if n, ok := e.cmd.(Note); ok && n.ID == "" {
				continue // a note without an ID asks to stand as often as it is said
			}
			if !sameContent(t, once, twice) {
				t.Fatalf("%#v changes the state again:\n%s\n%s", e.cmd, snapshotBytes(t, once), snapshotBytes(t, twice))
			}
			if err == nil && again == nil && first != second {
				t.Fatalf("%#v gives %v, then %v", e.cmd, first, second)
			}
		}
	})
}

// TestInvariantsHold after every command; refused commands change nothing, and no
// version that was published is ever written to again.
func TestInvariantsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		before := make([][]byte, len(states))
		for i, s := range states {
			if err := errors.Join(Check(s), checkStrictly(s)); err != nil {
				t.Fatal(err)
			}
			before[i] = snapshotBytes(t, s)
			if i%8 != 0 && i != len(states)-1 {
				continue
			}
			if back, err := ReadSnapshot(bytes.NewReader(before[i])); err != nil || !bytes.Equal(before[i], snapshotBytes(t, back)) {
				t.Fatalf("a snapshot is not read back as it was written: %v\n%s", err, before[i])
			}
		}
		for i, e := range log {
			next, _, err := Apply(states[i], uint64(i+1), 1, e.stamp, e.cmd)
			if err != nil {
				still := *states[i]
				still.Stamp = next.Stamp
				if !sameContent(t, &still, next) {
					t.Fatalf("%#v was refused (%v) and changed the state", e.cmd, err)
				}
			}
			// Another branch from the same base must not write into what both share.
			Apply(states[i], uint64(i+1), 2, e.stamp, command(t, states[i]))
		}
		for i, s := range states {
			if !bytes.Equal(before[i], snapshotBytes(t, s)) {
				t.Fatalf("version %d was written to after it was published", i)
			}
		}
	})
}

// step is the place of a phase on its way.
func step(p Phase) int {
	return slices.Index([]Phase{Pending, Starting, Running, Draining, Stopped}, p)
}

// TestPhasesGoForward within a generation, and generations within a row.
func TestPhasesGoForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, states := drawLog(t)
		for i := 1; i < len(states); i++ {
			for _, was := range states[i-1].Containers {
				now, ok := states[i].Container(was.Service, was.Number)
				if !ok || now.Created != was.Created {
					continue
				}
				back := now.Generation < was.Generation ||
					now.Generation == was.Generation && (step(now.Observed) < step(was.Observed) || step(now.Desired) < step(was.Desired))
				if back {
					t.Fatalf("row went back: %+v, then %+v", was, now)
				}
			}
		}
	})
}

// TestEachTurnIsIssuedOnce over all nodes and all lives of a service of that name;
// a repeat gives the run it gave before.
func TestEachTurnIsIssuedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		type run struct{ from, count uint64 }
		issued := map[string][]run{}
		for i, e := range log {
			c, ok := e.cmd.(TakeTurns)
			if !ok {
				continue
			}
			lease, held := states[i].Lease(c.Service, c.Node)
			_, result, err := Apply(states[i], uint64(i+1), 1, e.stamp, e.cmd)
			if err != nil {
				continue
			}
			got := run{result.(uint64), c.Count}
			if held && lease.Epoch == c.Epoch && lease.Seq == c.Seq {
				if want := (run{lease.From, lease.Count}); got != want {
					t.Fatalf("%+v gives %+v again; it gave %+v", c, got, want)
				}
				continue
			}
			for _, other := range issued[c.Service] {
				if got.from < other.from+other.count && other.from < got.from+got.count {
					t.Fatalf("%+v gives %+v, and %+v was issued before", c, got, other)
				}
			}
			issued[c.Service] = append(issued[c.Service], got)
		}
	})
}

// TestEachReportCountsOnce: for every second that a scale decision may look at,
// Requests is what a list of all acknowledged reports gives.
func TestEachReportCountsOnce(t *testing.T) {
	type report struct {
		second int64
		served uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		reports := map[string][]report{}
		for i, e := range log {
			next := states[i+1]
			if c, ok := e.cmd.(TakeTurns); ok {
				was, held := states[i].Lease(c.Service, c.Node)
				repeated := held && was.Epoch == c.Epoch && was.Seq == c.Seq
				if _, _, err := Apply(states[i], uint64(i+1), 1, e.stamp, c); err == nil && !repeated {
					reports[c.Service] = append(reports[c.Service], report{next.Stamp / 1000, c.Served})
				}
			}
			for _, name := range drawnServices {
				sv, ok := next.Service(name)
				if !ok {
					delete(reports, name)
					continue
				}
				window, cooldown := int64(sv.Spec.Scale.Window)/1e6, int64(sv.Spec.Scale.Cooldown)/1e6
				for _, back := range []int64{0, 1000, cooldown / 2, cooldown - 1000} {
					now := next.Stamp - back
					var want uint64
					for _, r := range reports[name] {
						if r.second <= now/1000 && r.second > now/1000-window/1000 {
							want += r.served
						}
					}
					if got := sv.Requests(now, window); got != want {
						t.Fatalf("%s, %d ms ago: %d requests, reported were %d", name, back, got, want)
					}
				}
			}
		}
	})
}

// TestClocksOnlyGoForward: stamp, applied and changed never go back, and what says
// that the table has changed tells the truth.
func TestClocksOnlyGoForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, states := drawLog(t)
		for i := 1; i < len(states); i++ {
			was, now := states[i-1], states[i]
			if now.Stamp < was.Stamp || now.Applied != was.Applied+1 || now.Changed < was.Changed {
				t.Fatalf("from applied %d, changed %d, stamp %d to %d, %d, %d",
					was.Applied, was.Changed, was.Stamp, now.Applied, now.Changed, now.Stamp)
			}
			if now.Changed == was.Changed && !bytes.Equal(tableBytes(t, was), tableBytes(t, now)) {
				t.Fatalf("the table has changed and nobody is told:\n%s\n%s", tableBytes(t, was), tableBytes(t, now))
			}
		}
	})
}

// tableBytes is a state without what changes with each lease.
func tableBytes(t interface{ Fatal(...any) }, s *State) []byte {
	x := *s
	x.Applied, x.Term, x.Changed, x.Stamp, x.Leases = 0, 0, 0, 0, nil
	x.Services = slices.Clone(s.Services)
	for i := range x.Services {
		x.Services[i].Turn, x.Services[i].Buckets = 0, nil
	}
	return snapshotBytes(t, &x)
}

// checkStrictly is what every reachable state keeps and Restore does not insist on:
// a state that is merely odd is better than a node that does not start.
func checkStrictly(s *State) error {
	lives := map[string]string{}
	for _, n := range s.Nodes {
		if !n.Status.valid() || n.Index > s.Applied || len(n.Reason) > MaxReason {
			return fmt.Errorf("node %+v", n)
		}
		if n.Status.gone() {
			continue
		}
		for _, addr := range []string{n.RaftAddr, n.APIAddr} {
			if other, taken := lives[addr]; taken {
				return fmt.Errorf("nodes %s and %s share %s", other, n.ID, addr)
			}
			lives[addr] = n.ID
		}
	}
	for _, c := range s.Containers {
		if c.Port < 1 || c.Port > MaxPort || c.Since > s.Stamp || len(c.Reason) > MaxReason {
			return fmt.Errorf("row %+v", c)
		}
	}
	for _, sv := range s.Services {
		seen := int64(sv.Spec.Scale.Window+sv.Spec.Scale.Cooldown)/1e9 + 1
		if n := int64(len(sv.Buckets)); n > seen {
			return fmt.Errorf("%s keeps %d buckets, %d can be looked at", sv.Name, n, seen)
		}
		if sv.Index > s.Applied || len(sv.Revisions) > MaxRevisions+len(s.Containers) || sv.Decision.Desired < 0 {
			return fmt.Errorf("service %+v", sv)
		}
	}
	for _, l := range s.Leases {
		if _, ok := s.Node(l.Node); !ok {
			return fmt.Errorf("lease %+v of no node", l)
		}
	}
	for _, e := range s.Events {
		if e.Index > s.Applied || len(e.Reason) > MaxReason || len(e.ID)+len(e.Kind) > MaxReason {
			return fmt.Errorf("event %+v", e)
		}
	}
	if s.Changed > s.Applied {
		return fmt.Errorf("changed at %d, applied %d", s.Changed, s.Applied)
	}
	return nil
}

// TestStaleCommandIsRefused: a command that is born of an older version of a row.
func TestStaleCommandIsRefused(t *testing.T) {
	s := table(t)
	row, _ := s.Container("acts", 1)
	old := row.Row()
	s = must(t, s, SetStatus{Row: old, Status: true})
	for _, c := range []Command{
		SetStatus{Row: old}, Relaunch{Row: old, Node: "n1", Port: 8000}, BackOff{Row: old, RetryAt: 1},
		Drain{Row: old, Deadline: 1}, Stop{Row: old}, Forget{Row: old},
	} {
		if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, c); !errors.Is(err, ErrStale) {
			t.Errorf("%T born of index %d: %v, want ErrStale", c, old.Seen, err)
		}
	}
}
