package proxy

import (
	"net/http"
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

// TestEjectedRowServesWhereAllElseIsFull: a request that has waited as long as it may, or may
// not wait, goes to a row that has failed before it is refused.
func TestEjectedRowServesWhereAllElseIsFull(t *testing.T) { both(t, testEjectedRowServes) }

func testEjectedRowServes(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	busy := backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			close(entered)
			<-release
		}
	})
	p := startLimited(t, Config{MaxInFlight: 1, Hold: 100 * time.Millisecond}, patient(busy, backend(t, 2, nil)))
	held := make(chan struct{})
	p.ejectFor(2, time.Minute)
	go func() {
		defer close(held)
		do(t, "PUT", p.url+"/", "x")
	}()
	await(t, entered, "the request that fills the row")
	for range 3 {
		if resp, _ := do(t, "POST", p.url+"/", "x"); resp.StatusCode != http.StatusOK {
			t.Errorf("beside an ejected row with room: %s", resp.Status)
		}
	}
	close(release)
	await(t, held, "its answer")
}

// ejectFor passes a row over for so long.
func (l *lab) ejectFor(number int, d time.Duration) {
	for _, u := range l.routing.Load().services["acts"].rows {
		if u.Number == number {
			u.eject(time.Now().Add(d - ejection))
		}
	}
}
