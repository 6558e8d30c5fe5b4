package fsm

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// bigState is a busy cluster: rows rows of four services on three nodes, two
// minutes and a cooldown of buckets, every event kept.
func bigState(b *testing.B, rows int) *State {
	b.Helper()
	s := &State{Stamp: 1_000_000}
	for i := range 3 {
		addr := fmt.Sprintf("10.0.0.%d", i+1)
		s = must(b, s, PutNode{Node: Node{ID: fmt.Sprint("n", i), Addr: addr, RaftAddr: addr + ":7481", APIAddr: addr + ":7480"}})
	}
	for i := range 4 {
		s = must(b, s, PutService{Spec: Spec{Name: fmt.Sprint("s", i), Image: "acts:1"}.WithDefaults()})
	}
	for i := range rows {
		c := Place{Service: fmt.Sprint("s", i%4), Number: i/4 + 1, Node: fmt.Sprint("n", i%3), Port: 8000 + i, Reason: "65 requests in 2m0s, 20 a container"}
		s = must(b, s, c)
		s = must(b, s, Observe{Node: c.Node, Service: c.Service, Number: c.Number, Generation: 1, Phase: Running, LocalAddr: "172.17.0.2:8000"})
		r, _ := s.Container(c.Service, c.Number)
		s = must(b, s, SetStatus{Row: r.Row(), Status: true, Reason: "healthy"})
	}
	for i := range 300 {
		s = must(b, s, TakeTurns{Service: "s0", Node: "n0", Epoch: 1, Seq: uint64(i + 1), Count: 10, Served: 10})
	}
	for i := len(s.Events); i < MaxEvents; i++ {
		s = must(b, s, Note{ID: fmt.Sprint(i), What: "note", Reason: "a line of about forty characters, say"})
	}
	return s
}

// BenchmarkTakeTurns is the command that a busy cluster applies all the time.
func BenchmarkTakeTurns(b *testing.B) {
	s := bigState(b, 100)
	c := TakeTurns{Service: "s0", Node: "n1", Epoch: 1, Count: 10, Served: 10}
	b.ReportAllocs()
	for b.Loop() {
		c.Seq++
		next, _, err := Apply(s, s.Applied+1, 1, s.Stamp+20, c)
		if err != nil {
			b.Fatal(err)
		}
		s = next
	}
}

// BenchmarkSetStatus is a command that copies the rows and adds an event.
func BenchmarkSetStatus(b *testing.B) {
	s := bigState(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		r, _ := s.Container("s2", 7)
		next, _, err := Apply(s, s.Applied+1, 1, s.Stamp+20, SetStatus{Row: r.Row(), Status: !r.Status, Reason: "health answered 500"})
		if err != nil {
			b.Fatal(err)
		}
		s = next
	}
}

// BenchmarkStoreApply is a TakeTurns from the bytes of the log to the new view.
func BenchmarkStoreApply(b *testing.B) {
	s := NewStore()
	s.current.Store(bigState(b, 100))
	c := TakeTurns{Service: "s0", Node: "n1", Epoch: 1, Count: 10, Served: 10}
	b.ReportAllocs()
	for b.Loop() {
		c.Seq++
		v := s.View()
		data, err := Encode(v.Stamp+20, c)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := s.Apply(v.Applied+1, 1, data).(uint64); !ok {
			b.Fatal("no turn")
		}
	}
}

// BenchmarkRotation is what each node computes anew when the table has changed.
func BenchmarkRotation(b *testing.B) {
	s := bigState(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Rotation("s0")) != 25 {
			b.Fatal("not all are healthy")
		}
	}
}

func BenchmarkWriteSnapshot(b *testing.B) {
	s := bigState(b, 100)
	b.SetBytes(int64(len(snapshotBytes(b, s))))
	b.ReportAllocs()
	for b.Loop() {
		if err := WriteSnapshot(io.Discard, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadSnapshot(b *testing.B) {
	data := snapshotBytes(b, bigState(b, 100))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadSnapshot(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
