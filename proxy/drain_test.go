package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// fleet is what a leader does to rows, less the leader: each is stopped only when the
// proxy serves from a table in which it drains and has nothing in flight on it.
type fleet struct {
	t     *testing.T
	p     *lab
	index uint64
	rows  []Row
	stops map[string]func() // by address
	sent  *atomic.Int64
	next  int // number of a new row
}

func (f *fleet) launch(number int, generation uint64) Row {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, number) })}
	go s.Serve(l)
	f.stops[l.Addr().String()] = func() { s.Close() }
	return Row{Number: number, Generation: generation, Addr: l.Addr().String(), Direct: true}
}

// show has the proxy serve from the rows as they are, and something be served from that.
func (f *fleet) show() {
	f.t.Helper()
	f.index++
	f.p.SetTable(acts(f.index, slices.Clone(f.rows)...)) // a table that was given away is not changed
	if f.p.Serving() != f.index {
		f.t.Fatalf("serving %d", f.p.Serving())
	}
	deadline := time.Now().Add(patience)
	for before := f.sent.Load(); f.sent.Load() == before; {
		if time.Now().After(deadline) {
			f.t.Fatalf("no request ends any more, %d have", before)
		}
		runtime.Gosched()
	}
}

func (f *fleet) up() {
	f.next++
	f.rows = append(f.rows, f.launch(f.next, 1))
	f.show()
}

// drain empties and stops the i-th row; it stays in the list, draining.
func (f *fleet) drain(i int) Row {
	f.t.Helper()
	row := f.rows[i]
	f.rows[i].Draining = true
	f.show()
	deadline := time.Now().Add(patience)
	busy := func(l RowLoad) bool { return l.Number == row.Number && l.Generation == row.Generation }
	for slices.ContainsFunc(f.p.InFlight(), busy) {
		if time.Now().After(deadline) {
			f.t.Fatalf("row %d does not drain: %+v", row.Number, f.p.InFlight())
		}
		runtime.Gosched()
	}
	f.stops[row.Addr]()
	delete(f.stops, row.Addr)
	return row
}

func (f *fleet) down(i int) {
	f.drain(i)
	f.rows = slices.Delete(f.rows, i, i+1)
	f.show()
}

// roll has a row begin anew: its number, the next generation.
func (f *fleet) roll(i int) {
	old := f.drain(i)
	f.rows[i] = f.launch(old.Number, old.Generation+1)
	f.show()
}

// TestDrainUnderLoad: ten thousand times rows are scaled up and down, drained and rolled,
// under load. No request fails, of any method.
func TestDrainUnderLoad(t *testing.T) { both(t, testDrainUnderLoad) }

func testDrainUnderLoad(t *testing.T) {
	cycles := 10_000
	if reference {
		cycles = 200
	}
	f := &fleet{t: t, stops: map[string]func(){}, sent: &atomic.Int64{}, next: 2}
	f.rows = []Row{f.launch(1, 1), f.launch(2, 1)}
	defer func() {
		for _, stop := range f.stops {
			stop()
		}
	}()
	f.p = start(t, "n1", &counter{}, acts(0, slices.Clone(f.rows)...))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int64
	defer wg.Wait()
	defer cancel()
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := browser.Post(f.p.url+"/api/v1/x", "text/plain", strings.NewReader("body"))
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
				}
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				f.sent.Add(1)
			}
		})
	}
	t.Cleanup(browser.CloseIdleConnections)
	for i := range cycles {
		switch k := i % len(f.rows); i % 5 {
		case 0:
			f.up()
		case 1, 3:
			f.roll(k)
		case 2:
			f.down(k)
		case 4: // one goes, another comes
			f.up()
			f.down(k)
		}
	}
	if n := failed.Load(); n > 0 || f.sent.Load() < int64(cycles) {
		t.Errorf("%d of %d requests failed", n, f.sent.Load())
	}
}

// TestWebSocketEndsByTheDeadline of the drain where its row never closes it, and not
// before.
func TestWebSocketEndsByTheDeadline(t *testing.T) {
	closed := make(chan error, 1)
	p := startLimited(t, Config{DrainTimeout: time.Second}, patient(echoes(t, closed)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, strings.Replace(p.url, "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	began := time.Now()
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	echoed := 0
	for {
		if err = c.Write(ctx, websocket.MessageText, []byte("x")); err == nil {
			_, _, err = c.Read(ctx)
		}
		if err != nil {
			break
		}
		echoed++
	}
	took := time.Since(began)
	<-stopped
	if took < time.Second || ctx.Err() != nil || echoed == 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended after %s and %d echoes: %v", took, echoed, err)
	}
}
