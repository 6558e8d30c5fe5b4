package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// entry is one entry of a random log.
type entry struct {
	stamp int64
	cmd   Command
}

// pick draws one of a list, or zero where it is empty.
func pick[T any](t *rapid.T, list []T, zero T, label string) T {
	if len(list) == 0 {
		return zero
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

// someRow is a row of the state, mostly as it is, sometimes as it was.
func someRow(t *rapid.T, s *State) Row {
	r := pick(t, s.Containers, Container{Service: "acts", Number: 1, Generation: 1}, "row").Row()
	switch rapid.IntRange(0, 9).Draw(t, "staleness") {
	case 0:
		r.Seen -= min(r.Seen, 1)
	case 1:
		r.Generation++
	}
	return r
}

// command draws a command that is often valid in s.
func command(t *rapid.T, s *State) Command {
	names := []string{"acts", "users"}
	ids := []string{"n1", "n2", "n3"}
	name := rapid.SampledFrom(names).Draw(t, "service")
	id := rapid.SampledFrom(ids).Draw(t, "node")
	reason := rapid.SampledFrom([]string{"", "exit code 137", "health answered 500"}).Draw(t, "reason")
	switch rapid.IntRange(1, 24).Draw(t, "kind") {
	case 1:
		return InitCluster{ClusterID: rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "cluster")}
	case 2, 3:
		addr := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}).Draw(t, "addr")
		return PutNode{Node: Node{ID: id, Addr: addr, RaftAddr: addr + ":7481", APIAddr: addr + ":7480"}}
	case 4:
		n := pick(t, s.Nodes, Node{ID: id}, "node row")
		status := rapid.SampledFrom([]NodeStatus{NodeAlive, NodeSuspect, NodeDead, NodeLeft, NodeDraining, "odd"}).Draw(t, "status")
		return SetNodeStatus{ID: n.ID, Seen: n.Index - uint64(min(n.Index, uint64(rapid.IntRange(0, 1).Draw(t, "old")))), Status: status, Reason: reason}
	case 5:
		return RemoveNode{ID: id}
	case 6, 7:
		spec := Spec{Name: name, Image: rapid.SampledFrom([]string{"a:1", "a:2"}).Draw(t, "image")}.WithDefaults()
		sv, _ := s.Service(name)
		return PutService{Spec: spec, Seen: sv.Index}
	case 8:
		return RemoveService{Name: name}
	case 9:
		return ScaleByHand{Service: name, Count: rapid.IntRange(0, 12).Draw(t, "count")}
	case 10:
		sv, _ := s.Service(name)
		return Decide{Service: name, Seen: sv.Index, Decision: Decision{Desired: rapid.IntRange(-1, 10).Draw(t, "desired"), At: s.Stamp, Reason: reason}}
	case 11, 12, 13:
		return Place{Service: name, Number: rapid.IntRange(0, 5).Draw(t, "number"), Node: id, Port: 8000 + rapid.IntRange(0, 6).Draw(t, "port"), Reason: reason}
	case 14:
		return SetStatus{Row: someRow(t, s), Status: rapid.Bool().Draw(t, "healthy"), Reason: reason}
	case 15:
		return Relaunch{Row: someRow(t, s), Node: id, Port: 8000 + rapid.IntRange(0, 6).Draw(t, "port"), Failures: rapid.IntRange(0, 9).Draw(t, "failures"), Reason: reason}
	case 16:
		return BackOff{Row: someRow(t, s), RetryAt: s.Stamp + 1000, Failures: 2, Reason: reason}
	case 17:
		return Drain{Row: someRow(t, s), Deadline: s.Stamp + 1000, Reason: reason}
	case 18:
		return Stop{Row: someRow(t, s), Reason: reason}
	case 19:
		return Forget{Row: someRow(t, s), Reason: reason}
	case 20, 21, 22:
		c := pick(t, s.Containers, Container{Service: name, Number: 1, Generation: 1, Node: id}, "observed row")
		phase := rapid.SampledFrom([]Phase{Pending, Starting, Running, Running, Stopped, Draining, "odd"}).Draw(t, "phase")
		return Observe{Node: c.Node, Service: c.Service, Number: c.Number, Generation: c.Generation, Phase: phase, LocalAddr: "172.17.0.2:8000", PortTaken: rapid.Bool().Draw(t, "taken"), Reason: reason}
	case 23:
		return Note{ID: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "id"), What: "note", Reason: reason}
	default:
		l, _ := s.Lease(name, id)
		return TakeTurns{Service: name, Node: id, Epoch: uint64(rapid.IntRange(1, 2).Draw(t, "epoch")), Seq: l.Seq + uint64(rapid.IntRange(0, 2).Draw(t, "ahead")),
			Count: uint64(rapid.IntRange(0, 50).Draw(t, "count")), Served: uint64(rapid.IntRange(0, 20).Draw(t, "served"))}
	}
}

// drawLog draws a log beside the states it leads through; states[i] is before entry i.
func drawLog(t *rapid.T) (log []entry, states []*State) {
	s := &State{}
	stamp := int64(1_000_000)
	for i := range rapid.IntRange(1, 120).Draw(t, "length") {
		stamp += int64(rapid.IntRange(-50, 3000).Draw(t, "passed"))
		e := entry{stamp, command(t, s)}
		log, states = append(log, e), append(states, s)
		s, _, _ = Apply(s, uint64(i+1), 1, e.stamp, e.cmd)
	}
	return log, append(states, s)
}

func snapshotBytes(t interface{ Fatal(...any) }, s *State) []byte {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// equalButFor compares two states leaving out where in the log they stand.
func sameContent(t interface{ Fatal(...any) }, a, b *State) bool {
	x, y := *a, *b
	x.Applied, x.Term, y.Applied, y.Term = 0, 0, 0, 0
	return bytes.Equal(snapshotBytes(t, &x), snapshotBytes(t, &y))
}

// TestEqualLogsGiveEqualBytes: two stores that apply one log, one of them restored
// from a snapshot somewhere on the way, hold equal bytes.
func TestEqualLogsGiveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, _ := drawLog(t)
		one, two := NewStore(), NewStore()
		at := rapid.IntRange(0, len(log)).Draw(t, "restore at")
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
		if a, b := snapshotBytes(t, one.View()), snapshotBytes(t, two.View()); !bytes.Equal(a, b) {
			t.Fatalf("states differ:\n%s\n%s", a, b)
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
			if err := Check(s); err != nil {
				t.Fatal(err)
			}
			before[i] = snapshotBytes(t, s)
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
					now.Generation == was.Generation && (now.Observed.rank() < was.Observed.rank() || now.Desired.rank() < was.Desired.rank())
				if back {
					t.Fatalf("row went back: %+v, then %+v", was, now)
				}
			}
		}
	})
}

// TestEachTurnIsIssuedOnce over all nodes, and every acknowledged report counts once.
func TestEachTurnIsIssuedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, states := drawLog(t)
		type life struct {
			service string
			created uint64
		}
		issued := map[life]map[uint64]string{}
		runs := map[string]uint64{}
		counted := map[life]uint64{}
		for i, e := range log {
			c, ok := e.cmd.(TakeTurns)
			if !ok {
				continue
			}
			_, result, err := Apply(states[i], uint64(i+1), 1, e.stamp, e.cmd)
			if err != nil {
				continue
			}
			from := result.(uint64)
			k := life{c.Service, firstSpec(states[:i+1], c.Service)}
			run := fmt.Sprintf("%v %s %d %d", k, c.Node, c.Epoch, c.Seq)
			if was, repeated := runs[run]; repeated {
				if was != from {
					t.Fatalf("%s: run from %d, then from %d", run, was, from)
				}
				continue
			}
			runs[run] = from
			counted[k] += c.Served
			if issued[k] == nil {
				issued[k] = map[uint64]string{}
			}
			for turn := from; turn < from+c.Count; turn++ {
				if other, taken := issued[k][turn]; taken {
					t.Fatalf("turn %d of %s was issued to %s and to %s", turn, c.Service, other, run)
				}
				issued[k][turn] = run
			}
		}
		last := states[len(states)-1]
		for _, sv := range last.Services {
			// The log is shorter than the window and the cooldown together, so every
			// bucket is still there.
			var sum uint64
			for _, b := range sv.Buckets {
				sum += b.Count
			}
			k := life{sv.Name, firstSpec(states, sv.Name)}
			if last.Stamp < 1_000_000+200_000 && sum != counted[k] {
				t.Fatalf("%s has counted %d requests, acknowledged were %d", sv.Name, sum, counted[k])
			}
		}
	})
}

// firstSpec tells one life of a service from an earlier one of the same name: the
// index of its last appearance out of nothing.
func firstSpec(states []*State, name string) uint64 {
	var born uint64
	there := false
	for _, s := range states {
		_, now := s.Service(name)
		if now && !there {
			born = s.Applied
		}
		there = now
	}
	return born
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
