package agent

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"orch/agent/consensus"
	"orch/fsm"
)

// held is a state that waits before it applies anything.
type held struct {
	*fsm.Store
	until chan struct{}
}

func (h held) Apply(index, term uint64, data []byte) any {
	<-h.until
	return h.Store.Apply(index, term, data)
}

// TestNewLeaderKeepsNothingOld: it leads before it has applied what is in its log, and a
// snapshot file of then would be one of an older state, or of none.
func TestNewLeaderKeepsNothingOld(t *testing.T) {
	timings, err := consensus.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: Config{NodeID: "n1"}, store: fsm.NewStore(), clock: newClock(time.Now())}
	h := held{n.store, make(chan struct{})}
	if n.raft, err = consensus.Open(consensus.Config{ID: "n1", Addr: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "n1"), Timings: timings}, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, n.raft) })
	n.peers = newPeers(n)
	t.Cleanup(n.peers.close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.raft.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	s := source{n}
	for !s.Leads() {
		select {
		case <-ctx.Done():
			t.Fatal("it does not lead")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := n.raft.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	before, done := n.raft.Status().Commit, make(chan error)
	go func() {
		_, err := n.proposeHere(ctx, fsm.InitCluster{ClusterID: "c"})
		done <- err
	}()
	for n.raft.Status().Commit == before {
		select {
		case <-ctx.Done():
			t.Fatal("nothing is committed")
		case <-time.After(10 * time.Millisecond):
		}
	}
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	if v, err := s.View(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before anything is applied: %+v, %v", v, err)
	}
	close(h.until)
	if v, err := s.View(ctx); err != nil || v.ClusterID != "c" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
