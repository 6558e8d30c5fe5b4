package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

// TestUnreachedLeaderIsNoLeader: nothing was sent, so nothing was changed, and the
// follower tries again until there is another one.
func TestUnreachedLeaderIsNoLeader(t *testing.T) {
	leader, toLeader := leading(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	toGone := NewClient(gone.Addr().String(), nil)
	if _, err := toGone.Propose(t.Context(), fsm.ScaleByHand{Service: "acts", Count: 2}); !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknown) {
		t.Errorf("%v, want no leader", err)
	}
	n := &elects{one: one{Store: leader.Store}, leaders: []*Client{toGone, toGone, toLeader}}
	if err := serve(t, n).Scale(t.Context(), "acts", 3); err != nil || leader.View().Services[0].Manual != 3 {
		t.Errorf("over the death of a leader: %v, %+v", err, leader.View().Services[0])
	}
}

// elects forwards to the next of its leaders each time it is asked, then to the last.
type elects struct {
	one
	asked   atomic.Int32
	leaders []*Client
}

func (n *elects) Propose(ctx context.Context, c fsm.Command) (any, error) {
	i := min(int(n.asked.Add(1)), len(n.leaders)) - 1
	return n.leaders[i].Propose(ctx, c)
}

// TestLostAnswerIsUnknown: a leader that dies with the command in its hands.
func TestLostAnswerIsUnknown(t *testing.T) {
	dies := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer dies.Close()
	c := NewClient(strings.TrimPrefix(dies.URL, "http://"), nil)
	defer c.Close()
	if _, err := c.Propose(t.Context(), fsm.Note{ID: "x", What: "note"}); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoLeader) {
		t.Errorf("%v, want an unknown outcome", err)
	}
}

// TestRetry: what is tried again, and what is said in the end, in a bubble's time.
func TestRetry(t *testing.T) {
	other := errors.New("other")
	for name, c := range map[string]struct {
		repeat bool
		errs   []error // one a try; the last one stays
		want   error
		not    error
		after  time.Duration
	}{
		"at once":                 {false, []error{nil}, nil, nil, 0},
		"an election":             {false, []error{ErrNoLeader, ErrNoLeader, nil}, nil, nil, 2 * retryInterval},
		"a refusal":               {true, []error{fsm.ErrStale}, fsm.ErrStale, ErrNoLeader, 0},
		"another error":           {true, []error{ErrNoLeader, other}, other, nil, retryInterval},
		"no leader at all":        {true, []error{ErrNoLeader}, ErrNoLeader, ErrUnknown, leaderWait},
		"unknown, not repeatable": {false, []error{ErrUnknown, nil}, ErrUnknown, ErrNoLeader, 0},
		"unknown, repeatable":     {true, []error{ErrUnknown, nil}, nil, nil, retryInterval},
		// "Nothing was changed" would be a lie.
		"unknown, then no leader": {true, []error{ErrUnknown, ErrNoLeader}, ErrUnknown, ErrNoLeader, leaderWait},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries, began := 0, time.Now()
			err := retry(t.Context(), c.repeat, func(_ context.Context, perhaps bool) error {
				err := c.errs[min(tries, len(c.errs)-1)]
				if want := tries > 0 && errors.Is(c.errs[0], ErrUnknown); perhaps != want {
					t.Errorf("%s, try %d: perhaps is %v", name, tries, perhaps)
				}
				tries++
				return err
			})
			if took := time.Since(began); !errors.Is(err, c.want) || c.not != nil && errors.Is(err, c.not) || took != c.after || took > 5*time.Second {
				t.Errorf("%s: %v after %s, want %v after %s", name, err, took, c.want, c.after)
			}
		})
	}
}

// TestStuckLeader: one that takes a command and says nothing does not hold an operator
// for more than 5 s.
func TestStuckLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := retry(t.Context(), true, func(ctx context.Context, _ bool) error {
			<-ctx.Done()
			return errors.Join(ErrUnknown, ctx.Err())
		})
		if took := time.Since(began); !errors.Is(err, ErrUnknown) || took > 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// TestRemovedTwiceIsOnce: the first try was done, but its answer was lost.
func TestRemovedTwiceIsOnce(t *testing.T) {
	n := &forgetful{}
	if err := serve(t, n).Delete(t.Context(), "acts"); err != nil || n.asked.Load() != 2 {
		t.Errorf("%v after %d tries", err, n.asked.Load())
	}
}

// forgetful does the first command, loses its answer, and finds nothing at the second.
type forgetful struct {
	one
	asked atomic.Int32
}

func (n *forgetful) Propose(context.Context, fsm.Command) (any, error) {
	if n.asked.Add(1) == 1 {
		return nil, ErrUnknown
	}
	return nil, fsm.ErrNoSuchService
}

// TestNodeRemovedTwiceIsOnce: the first try was done, but its answer was lost, and the
// table here shows it late.
func TestNodeRemovedTwiceIsOnce(t *testing.T) {
	n := &amnesic{errs: []error{ErrUnknown, fsm.ErrStale, fsm.ErrNoSuchNode}}
	if _, err := serve(t, n).RemoveNode(t.Context(), "n8", true); err != nil || n.asked.Load() != 3 {
		t.Errorf("%v after %d tries", err, n.asked.Load())
	}
	n = &amnesic{errs: []error{fsm.ErrNoSuchNode}}
	if _, err := serve(t, n).RemoveNode(t.Context(), "n8", true); !errors.Is(err, fsm.ErrNoSuchNode) {
		t.Errorf("one that there never was: %v", err)
	}
}

// amnesic says one thing after the other of a node that is to go.
type amnesic struct {
	one
	asked atomic.Int32
	errs  []error
}

func (n *amnesic) RemoveNode(context.Context, string, bool, string) error {
	return n.errs[n.asked.Add(1)-1]
}

// TestForceMayTakeLonger than a write: it takes leadership and vote before it writes.
func TestForceMayTakeLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for query, want := range map[string]int{"": http.StatusGatewayTimeout, "?force=1": http.StatusOK} {
			w := httptest.NewRecorder()
			NewServer(&slow{}, slog.New(slog.DiscardHandler), whole).routes().ServeHTTP(w, httptest.NewRequest("DELETE", "/v1/nodes/n8"+query, nil))
			if w.Code != want {
				t.Errorf("%q: %d %s, want %d", query, w.Code, w.Body, want)
			}
		}
	})
}

// slow takes for a removal as long as one by force can.
type slow struct{ one }

func (*slow) RemoveNode(ctx context.Context, _ string, _ bool, _ string) error {
	select {
	case <-time.After(7 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestTwoThatTakeEachOtherForTheLeader: a transfer goes one hop a try, not to and fro.
func TestTwoThatTakeEachOtherForTheLeader(t *testing.T) {
	a, b := &sure{one: one{Store: fsm.NewStore()}}, &sure{one: one{Store: fsm.NewStore()}}
	toA, toB := serve(t, a), serve(t, b)
	a.other, b.other = toB, toA
	began := time.Now()
	err := toA.Transfer(t.Context(), "n9")
	if !errors.Is(err, ErrNoLeader) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if a.asked.Load() != b.asked.Load() || a.asked.Load() > int32(leaderWait/retryInterval)+1 {
		t.Errorf("%d tries made %d hops", a.asked.Load(), b.asked.Load())
	}
}

// sure is sure that the other one leads.
type sure struct {
	one
	other *Client
	asked atomic.Int32
}

func (n *sure) Transfer(ctx context.Context, to, _ string) error {
	n.asked.Add(1)
	return n.other.Transfer(ctx, to)
}

// TestErrorsSayWhatToDo, once, also through a second node.
func TestErrorsSayWhatToDo(t *testing.T) {
	leader, toLeader := leading(t)
	c := serve(t, &one{Store: leader.Store, leader: toLeader})
	err := c.Scale(t.Context(), "none", 2)
	if err == nil || strings.Count(err.Error(), "orchctl status") != 1 {
		t.Errorf("%v", err)
	}
	w := httptest.NewRecorder()
	if fail(w, fmt.Errorf("ask: %w", &Error{"stale", "stale; said by the leader"})); strings.Count(w.Body.String(), ";") != 1 {
		t.Errorf("said again: %s", w.Body)
	}
	for _, err := range []error{fsm.ErrStale, fsm.ErrNoSuchRow, fsm.ErrNoSuchNode, fsm.ErrNodeInUse, fsm.ErrNodeDown, ErrUnknown, context.DeadlineExceeded, errors.New("x")} {
		w := httptest.NewRecorder()
		fail(w, err)
		if !strings.Contains(w.Body.String(), "; ") {
			t.Errorf("%v: %s", err, w.Body)
		}
	}
}

func FuzzPropose(f *testing.F) {
	data, err := fsm.Encode(0, fsm.Note{ID: "x", What: "note", By: "root on n1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	n := &one{Store: fsm.NewStore(), leads: true}
	h := NewServer(n, slog.New(slog.DiscardHandler), whole).routes()
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/propose", bytes.NewReader(body)))
		if w.Code == 500 || n.Fatal() != nil {
			t.Errorf("%q: %d %s %v", body, w.Code, w.Body, n.Fatal())
		}
	})
}
