package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestCrashCostsNoGet: a row that is made to fail under a load of GETs is out of
// rotation before any of them fails.
func TestCrashCostsNoGet(t *testing.T) { both(t, testCrashCostsNoGet) }

func testCrashCostsNoGet(t *testing.T) {
	var crashed [3]atomic.Bool
	var after [3]atomic.Int64
	var list []Row
	for i := range crashed {
		list = append(list, backend(t, i+1, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost:
				crashed[i].Store(true)
			case crashed[i].Load():
				after[i].Add(1)
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
	}
	p := start(t, "n1", &counter{}, acts(1, list...))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var sent, failed atomic.Int64
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := browser.Get(p.url + "/api/v1/photos")
				if err != nil {
					failed.Add(1)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				sent.Add(1)
			}
		})
	}
	t.Cleanup(browser.CloseIdleConnections)
	reach(t, &sent, 200)
	if resp, body := do(t, "POST", p.url+"/crash", ""); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Status, body)
	}
	reach(t, &sent, sent.Load()+1000)
	cancel()
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed", failed.Load(), sent.Load())
	}
	if p.heard.count() == 0 {
		t.Error("the leader was not told")
	}
	for i := range crashed {
		// Each of the 16 may have been on its way there, with the question after it.
		if n := after[i].Load(); n > 64 {
			t.Errorf("row %d was asked %d times after its crash", i+1, n)
		}
	}
}

// TestSlowHealthIsNoCrash: a row that answers 500 is asked for its health, and has the time
// that its service gives it to answer.
func TestSlowHealthIsNoCrash(t *testing.T) { both(t, testSlowHealthIsNoCrash) }

func testSlowHealthIsNoCrash(t *testing.T) {
	slow := backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			<-time.After(2 * healthTimeout)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	for limit, blamed := range map[time.Duration]int{0: 1, patience: 0} {
		table := acts(1, slow)
		table.Services[0].HealthTimeout = limit
		p := start(t, "n1", &counter{}, table)
		if resp, _ := do(t, "POST", p.url+"/api/v1/photos", "x"); resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("with %v for an answer: %s", limit, resp.Status)
		}
		if n := p.heard.count(); n != blamed {
			t.Errorf("with %v for an answer: %d are blamed", limit, n)
		}
	}
}

// reach waits until a count is reached.
func reach(t *testing.T, n *atomic.Int64, want int64) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n.Load() < want {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d after 20 s", n.Load(), want)
		}
		<-tick.C
	}
}

// hanging turns are never answered.
type hanging struct{}

func (hanging) Take(ctx context.Context, _ TakeRequest) (uint64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func (hanging) Suspect(string, int, uint64, string) {}

// TestTurnsThatHang cost the first requests a wait, and the others none.
func TestTurnsThatHang(t *testing.T) {
	for _, mode := range []string{"leased", "exact"} {
		turns := newTurns("acts", "n1", hanging{}, new(atomic.Uint64))
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan struct{})
		go func() { defer close(kept); turns.keep(ctx) }()
		if _, source := turns.take(ctx, mode == "exact"); source != Local {
			t.Errorf("%s: %s", mode, source)
		}
		began := time.Now()
		for range 1000 {
			if _, source := turns.take(ctx, mode == "exact"); source != Local {
				t.Errorf("%s: %s", mode, source)
			}
		}
		if took := time.Since(began); took > dryWait {
			t.Errorf("%s: 1000 further turns took %v", mode, took)
		}
		cancel()
		<-kept
	}
}

// TestWebSocketOutlivesTheDrain: it goes on after the node has been told to end, until
// the row closes it.
func TestWebSocketOutlivesTheDrain(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "end" {
				c.Close(websocket.StatusGoingAway, "")
				return
			}
			c.Write(r.Context(), kind, b)
		}
	})))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, strings.Replace(p.url, "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	echo := func(s string) string {
		if err := c.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
			return err.Error()
		}
		_, b, err := c.Read(ctx)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	if got := echo("before"); got != "before" {
		t.Fatal(got)
	}
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	for p.clients.stopping.Load() == false {
		if ctx.Err() != nil {
			t.Fatal("it does not stop")
		}
	}
	for i := range 20 {
		if got := echo(fmt.Sprint(i)); got != fmt.Sprint(i) {
			t.Fatalf("while it drains: %s", got)
		}
	}
	if got := echo("end"); websocket.CloseStatus(errorOf(ctx, c)) != websocket.StatusGoingAway && !strings.Contains(got, "StatusGoingAway") {
		t.Errorf("at the end: %s", got)
	}
	<-stopped
}

// errorOf is what a further read ends with.
func errorOf(ctx context.Context, c *websocket.Conn) error {
	_, _, err := c.Read(ctx)
	return err
}
