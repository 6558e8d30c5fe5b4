package consensus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestReelection(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose("before")
	old := c.leader()
	start := time.Now()
	old.close(t)
	fresh := c.leader(old)
	t.Logf("another leader after %v", time.Since(start))
	c.propose("after", old)
	for _, s := range c.others(old) {
		until(t, "the leader is known", func() bool { id, addr := s.Leader(); return id == fresh.cfg.ID && addr == fresh.Addr() })
	}
	c.reopen(old)
	c.agree("before", "after")
}

func TestRestartWithData(t *testing.T) {
	c := newCluster(t, 3, nil)
	for i := range 50 {
		c.propose(fmt.Sprint(i))
	}
	for _, s := range c.servers {
		s.close(t)
	}
	for _, s := range c.servers {
		c.reopen(s)
		if !s.HasState() {
			t.Fatalf("%s has forgotten its cluster", s.cfg.ID)
		}
	}
	c.leader()
	c.agree("0", "49")
	if got := len(c.servers[0].list.all()); got < 50 {
		t.Fatalf("%d entries, want at least 50", got)
	}
}

func TestBootstrapRefusesState(t *testing.T) {
	c := newCluster(t, 1, nil)
	if err := c.servers[0].Bootstrap(within(t, patience)); !errors.Is(err, ErrHasState) {
		t.Fatalf("second bootstrap: %v, want ErrHasState", err)
	}
	fresh := c.open(c.config("fresh"))
	if fresh.HasState() {
		t.Fatal("an empty folder has state")
	}
	if id, _ := fresh.Leader(); id != "" {
		t.Fatalf("a node in no cluster follows %q", id)
	}
}

func TestProposeOutcomes(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	ctx := within(t, patience)
	result, index, err := leader.Propose(ctx, []byte("one"))
	if err != nil || index == 0 || result != len(leader.list.all()) {
		t.Fatalf("got %v at %d, %v", result, index, err)
	}
	if _, _, err := leader.Propose(ctx, []byte("refuse")); !errors.Is(err, errRefused) || errors.Is(err, ErrUnknown) {
		t.Fatalf("a refusal of the machine: %v", err)
	}
	if _, _, err := leader.Propose(ctx, make([]byte, MaxCommand+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a large command: %v", err)
	}
	if _, _, err := c.others(leader)[0].Propose(ctx, []byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("on a follower: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := leader.Propose(over, []byte("never")); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Fatalf("with a context that is over: %v, want a definite error", err)
	}
	leader.close(t)
	if _, _, err := leader.Propose(ctx, []byte("late")); !errors.Is(err, ErrClosed) {
		t.Fatalf("on a closed node: %v", err)
	}
}

// A caller that gives up gets its answer at once, and that answer is perhaps:
// here the command is applied all the same.
func TestProposeHonoursContext(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.servers[0]
	hold := make(chan struct{})
	s.list.mu.Lock()
	s.list.hold = hold
	s.list.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, _, err := s.Propose(ctx, []byte("slow"))
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want ErrUnknown for a deadline", err)
	}
	close(hold)
	until(t, "the command is applied", func() bool { return s.list.has("slow") })
}

// A leader that is cut off does not know what becomes of what it has taken.
func TestLostLeadershipIsUnknown(t *testing.T) {
	c := newCluster(t, 3, nil)
	old := c.leader()
	old.gate.hold()
	_, _, err := old.Propose(within(t, patience), []byte("perhaps"))
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
	c.propose("sure", old)
	old.gate.release()
	c.agree("sure")
	if old.list.has("perhaps") {
		t.Fatal("an entry that no other node had is applied after another leader's")
	}
}

// true after true is lost and regained; the reader must be able to tell.
func TestFlapTrueTrue(t *testing.T) {
	c := newCluster(t, 3, nil)
	s := c.leader()
	if v := <-s.Leadership(); !v {
		t.Fatal("the first word is not true")
	}
	for range 2 { // away and back, with nobody reading
		to := c.others(s)[0]
		until(t, "transferred away", func() bool { return s.Transfer(within(t, patience), to.cfg.ID) == nil || !s.leading.Load() })
		until(t, "transferred back", func() bool {
			l := c.leader()
			return l == s || l.Transfer(within(t, patience), s.cfg.ID) == nil && c.leader() == s
		})
	}
	select {
	case v := <-s.Leadership():
		if !v {
			t.Fatal("the newest word is false on a leader")
		}
	case <-time.After(patience):
		t.Fatal("no word of the new term")
	}
	select {
	case v := <-s.Leadership():
		t.Fatalf("an old word (%v) behind the newest", v)
	default:
	}
}

func TestMembers(t *testing.T) {
	c := newCluster(t, 3, nil)
	ctx := within(t, patience)
	leader := c.leader()
	gone := c.others(leader)[0]
	if err := leader.AddVoter(ctx, gone.cfg.ID, gone.Addr()); err != nil {
		t.Fatalf("adding twice: %v", err)
	}
	if err := leader.AddNonvoter(ctx, "stranger", gone.Addr()); !errors.Is(err, ErrMember) || !strings.Contains(err.Error(), gone.cfg.ID) {
		t.Fatalf("a second node at one address: %v", err)
	}
	if err := gone.Remove(ctx, leader.cfg.ID); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("remove on a follower: %v", err)
	}
	if err := leader.Transfer(ctx, "stranger"); !errors.Is(err, ErrMember) {
		t.Fatalf("transfer to a stranger: %v", err)
	}
	for range 2 {
		if err := leader.Remove(ctx, gone.cfg.ID); err != nil {
			t.Fatal(err)
		}
	}
	all, err := leader.Members()
	if err != nil || len(all) != 2 {
		t.Fatalf("members %v, %v", all, err)
	}
	// The removed node neither ends nor disturbs the others.
	term := leader.Status().Term
	c.propose("without it", gone)
	if s := gone.Status(); s.State == "shutdown" {
		t.Fatal("a removed node has shut down")
	}
	if got := leader.Status().Term; got != term {
		t.Fatalf("term went from %d to %d", term, got)
	}
	last := c.others(leader)[1]
	if err := leader.Remove(ctx, last.cfg.ID); err != nil {
		t.Fatal(err)
	}
	if err := leader.Transfer(ctx, ""); !errors.Is(err, ErrMember) {
		t.Fatalf("transfer to nobody: %v", err)
	}
	if err := leader.Remove(ctx, leader.cfg.ID); !errors.Is(err, ErrMember) {
		t.Fatalf("removing the last voter: %v", err)
	}
}

func TestTransfer(t *testing.T) {
	c := newCluster(t, 3, nil)
	from := c.leader()
	to := c.others(from)[1]
	until(t, "the chosen one leads", func() bool {
		if l := c.leader(); l != to {
			if err := l.Transfer(within(t, patience), to.cfg.ID); err != nil {
				t.Log(err) // one that takes longer than an election is given up
				return false
			}
		}
		return to.leading.Load() && !from.leading.Load()
	})
}

func TestSilentMembers(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	lost := c.others(leader)[0]
	lost.close(t)
	until(t, "the leader knows who is silent", func() bool {
		s := c.leader(lost).Silent()
		return len(s) == 1 && !s[lost.cfg.ID].IsZero()
	})
	c.reopen(lost)
	until(t, "it is heard again", func() bool { return len(c.leader().Silent()) == 0 })
}

// BenchmarkPropose measures three nodes on one machine with 64 proposers.
func BenchmarkPropose(b *testing.B) {
	c := newCluster(b, 3, nil)
	leader := c.leader()
	data := make([]byte, 100)
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := leader.Propose(context.Background(), data); err != nil {
				b.Error(err)
			}
		}
	})
}
