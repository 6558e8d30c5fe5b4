package proxy

import (
	"testing"
	"time"
)

// TestEjectedRowsAreTheLastResort: where another row is only full, its room is waited for;
// where none is left that has not failed, one that has is tried.
func TestEjectedRowsAreTheLastResort(t *testing.T) {
	s := picked()
	for _, u := range s.rows {
		u.limit = 1
	}
	pick := func(want int, why string, tried ...*upstream) *upstream {
		t.Helper()
		got := 0
		u := s.pick(0, tried)
		if u != nil {
			got = u.Number
		}
		if got != want {
			t.Errorf("%s: row %d, want %d", why, got, want)
		}
		return u
	}
	one, two := s.rows[0], s.rows[1]
	one.eject(time.Now())
	pick(2, "the next one")
	three := pick(3, "the one after it")
	pick(0, "both are full")
	pick(0, "one is full, one has been tried", two)
	three.settle()
	pick(3, "there is room")
	two.drain()
	pick(1, "no other is left", three)
	pick(0, "it is full too", three)
	one.settle()
	three.eject(time.Now())
	pick(1, "all have failed")
	one.settle()
	one.until.Store(0)
	pick(1, "its time is over")
	if one.state.Load()&ejected != 0 {
		t.Error("it is still passed over")
	}
}
