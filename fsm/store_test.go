package fsm

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func applied(t *testing.T, s *Store, index uint64, c Command) any {
	t.Helper()
	data, err := Encode(int64(index)*1000, c)
	if err != nil {
		t.Fatal(err)
	}
	return s.Apply(index, 1, data)
}

func TestStorePokesOnChangesOnly(t *testing.T) {
	s := NewStore()
	poke, end := s.Subscribe()
	defer end()
	addr := Node{ID: "n1", RaftAddr: "r", APIAddr: "a"}
	applied(t, s, 1, PutNode{Node: addr})
	applied(t, s, 2, PutService{Spec: Spec{Name: "acts", Image: "acts"}.WithDefaults()})
	<-poke
	if got := applied(t, s, 3, TakeTurns{Service: "acts", Node: "n1", Epoch: 1, Seq: 1, Count: 3}); got != uint64(0) {
		t.Errorf("turns: %v", got)
	}
	select {
	case <-poke:
		t.Error("turns poked: every reader would wake at each lease")
	default:
	}
	if err, ok := applied(t, s, 4, RemoveNode{ID: "n9"}).(error); !ok || !errors.Is(err, ErrNoSuchNode) {
		t.Errorf("a refusal came as %v", err)
	}
	if v := s.View(); v.Applied != 4 || v.Changed != 2 {
		t.Errorf("applied %d, changed %d", v.Applied, v.Changed)
	}
}

func TestStoreWaitsForAnIndex(t *testing.T) {
	s := NewStore()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := s.Wait(t.Context(), 50); err != nil || v.Applied < 50 {
				t.Errorf("waited: %v", err)
			}
		})
	}
	for i := uint64(1); i <= 50; i++ {
		applied(t, s, i, InitCluster{ClusterID: "c"})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, 51); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an index that does not come: %v", err)
	}
}

// TestStoreStopsAtAnUnknownCommand: to skip it would be to diverge.
func TestStoreStopsAtAnUnknownCommand(t *testing.T) {
	s := NewStore()
	applied(t, s, 1, InitCluster{ClusterID: "c"})
	data, err := Encode(1, RemoveNode{ID: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	data[1] = 9
	sum := checksum(data)
	data[2], data[3], data[4], data[5] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	if err, ok := s.Apply(2, 1, data).(error); !ok || !errors.Is(err, ErrUnknownCommand) {
		t.Fatalf("result %v", err)
	}
	if !errors.Is(s.Fatal(), ErrUnknownCommand) {
		t.Errorf("fatal: %v", s.Fatal())
	}
	applied(t, s, 3, InitCluster{ClusterID: "c"})
	if s.View().Applied != 1 {
		t.Error("it went on after an entry that it could not apply")
	}
	if _, err := s.Wait(t.Context(), 3); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("a waiter hears %v", err)
	}
}

// TestFailedRestoreKeepsTheState.
func TestFailedRestoreKeepsTheState(t *testing.T) {
	s := NewStore()
	applied(t, s, 1, InitCluster{ClusterID: "c"})
	before := snapshotBytes(t, s.View())
	for name, b := range map[string][]byte{
		"nothing": nil, "another file": []byte("not a snapshot at all"), "cut off": before[:len(before)-1],
		"an invariant broken": snapshotBytes(t, &State{Applied: 1, Containers: []Container{{Service: "none", Number: 1}}}),
	} {
		if err := s.Restore(bytes.NewReader(b)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Equal(before, snapshotBytes(t, s.View())) {
		t.Error("a failed restore changed the state")
	}
	if err := s.Restore(bytes.NewReader(before)); err != nil || s.View().ClusterID != "c" {
		t.Errorf("a good one: %v", err)
	}
}
