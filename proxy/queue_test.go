package proxy

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestQueueHearsOfNewRows: who waits because all rows are full takes one that comes.
func TestQueueHearsOfNewRows(t *testing.T) { both(t, testQueueHearsOfNewRows) }

func testQueueHearsOfNewRows(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	busy := backend(t, 1, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	p := startLimited(t, Config{MaxInFlight: 1, Hold: patience}, patient(busy))
	codes := make(chan int, 2)
	ask := func() {
		resp, err := browser.Get(p.url + "/")
		if err != nil {
			codes <- 0
			return
		}
		resp.Body.Close()
		codes <- resp.StatusCode
	}
	defer browser.CloseIdleConnections()
	go ask()
	await(t, entered, "the first request")
	go ask()
	until(t, "the second waits", func() bool { return p.routing.Load().services["acts"].line.waiting.Load() == 1 })
	p.SetTable(patient(busy, backend(t, 2, nil)))
	if code := await(t, codes, "the answer of the new row"); code != 200 {
		t.Errorf("the new row: %d", code)
	}
	close(release)
	if code := await(t, codes, "the answer of the old row"); code != 200 {
		t.Errorf("the old row: %d", code)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %s", what, patience)
		}
	}
}

// TestQueueLosesNobody: with one place on one row, many who come at once are all served,
// one after the other: no room is overlooked, and nobody is told that there is no row.
func TestQueueLosesNobody(t *testing.T) {
	var inside, most atomic.Int64
	p := startLimited(t, Config{MaxInFlight: 1, Hold: patience}, patient(backend(t, 1, func(http.ResponseWriter, *http.Request) {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		inside.Add(-1)
	})))
	var asking sync.WaitGroup
	for range 16 {
		asking.Go(func() {
			for range 200 {
				resp, err := browser.Get(p.url + "/")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("%s", resp.Status)
				}
			}
		})
	}
	asking.Wait()
	browser.CloseIdleConnections()
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
}

// TestWaitersPassRoomOn: a token for a row that one has tried reaches another.
func TestWaitersPassRoomOn(t *testing.T) {
	l := newLine(8)
	never := func() <-chan struct{} { return nil }
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 4 { // they came first, so they are told first
		waiting.Go(func() {
			if l.wait(ctx, patience, never, func() bool { return false }) == nil {
				t.Error("one without room got some")
			}
		})
	}
	until(t, "four wait", func() bool { return l.waiting.Load() == 4 })
	served := make(chan struct{})
	var room atomic.Bool
	waiting.Go(func() {
		if err := l.wait(ctx, patience, never, room.Load); err != nil {
			t.Error(err)
		}
		close(served)
	})
	until(t, "five wait", func() bool { return l.waiting.Load() == 5 })
	room.Store(true)
	l.settled()
	await(t, served, "the room")
	cancel()
	waiting.Wait()
}

// TestWaitersLookByThemselves: a token that was lost costs a moment.
func TestWaitersLookByThemselves(t *testing.T) {
	l := newLine(8)
	var room atomic.Bool
	looked := make(chan struct{}, 1)
	served := make(chan error, 1)
	go func() {
		served <- l.wait(t.Context(), patience, func() <-chan struct{} { return nil }, func() bool {
			select {
			case looked <- struct{}{}:
			default:
			}
			return room.Load()
		})
	}()
	await(t, looked, "the first look")
	room.Store(true)
	if err := await(t, served, "the next"); err != nil {
		t.Error(err)
	}
}

// TestClaimsThatFailLeaveNoTrace: with more who claim than there is room, never more than
// the limit are counted, so that none fails by another's failing.
func TestClaimsThatFailLeaveNoTrace(t *testing.T) {
	u := &upstream{limit: 1}
	stop := make(chan struct{})
	var claiming sync.WaitGroup
	for i := range 8 {
		claim := []func() bool{u.claim, u.claimEjected}[i%2]
		claiming.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if claim() {
						u.settle()
					}
				}
			}
		})
	}
	for range 1_000_000 {
		if n := u.inFlight(); n > 1 {
			t.Fatalf("%d in flight of 1", n)
		}
	}
	close(stop)
	claiming.Wait()
	if u.inFlight() != 0 {
		t.Errorf("%d in flight at the end", u.inFlight())
	}
}

// TestRowsChangeBeforeTheTurn: a request that found its service before the table changed
// goes to the new rows at once.
func TestRowsChangeBeforeTheTurn(t *testing.T) {
	for _, before := range []Table{acts(1, backend(t, 1, nil)), acts(1)} {
		p := start(t, "n1", &counter{}, before)
		var r trip
		if err := r.begin(p.Proxy, "GET", "/", time.Now()); err != nil {
			t.Fatal(err)
		}
		p.SetTable(acts(2, backend(t, 2, nil)))
		began := time.Now()
		if err := r.next(t.Context(), nil); err != nil || r.row.Number != 2 {
			t.Fatalf("from %d rows: %v, %v", len(before.Services[0].Rows), r.row, err)
		}
		r.settle()
		if took := time.Since(began); took >= p.cfg.Hold {
			t.Errorf("it took %s", took)
		}
	}
}

// onceOnly refuses what came before, as the replicated state does.
type onceOnly struct {
	mu  sync.Mutex
	seq uint64
}

func (o *onceOnly) Take(_ context.Context, r TakeRequest) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Seq < o.seq {
		return 0, errStale
	}
	o.seq = r.Seq
	return r.Seq << 20, nil
}

// TestServiceComesAgain: one that was deleted and is back gets its turns from the cluster.
func TestServiceComesAgain(t *testing.T) {
	p := New(Config{Node: "n1"}, &onceOnly{}, &heard{})
	row := backend(t, 1, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		p.SetTable(acts(1, row))
		turns := p.routing.Load().services["acts"].turns
		for range 50 {
			if _, source := turns.take(ctx, true); source != Exact {
				t.Fatalf("a turn comes from %s", source)
			}
		}
		p.SetTable(Table{Index: 2})
		until(t, "its keeper ends", turns.quitting)
	}
	if !slices.Equal(p.Status(), nil) {
		t.Errorf("%+v", p.Status())
	}
}
