package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"testing"
	"testing/synctest"
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

// TestNoChangeIsMissed: a reader that subscribes, then reads, then reads again at
// each poke ends with the last change, however the pokes fall together.
func TestNoChangeIsMissed(t *testing.T) {
	const changes = 300
	s := NewStore()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			poke, end := s.Subscribe()
			defer end()
			for last := uint64(0); last < changes; {
				v := s.View()
				if v.Changed < last || len(v.Events) != int(v.Changed) {
					t.Errorf("from change %d to %d with %d events", last, v.Changed, len(v.Events))
					return
				}
				if last = v.Changed; last == changes {
					return
				}
				select {
				case <-poke:
				case <-t.Context().Done():
					t.Errorf("no poke after change %d", last)
					return
				}
			}
		})
		wg.Go(func() {
			for range changes { // those that come and go hold nobody up
				_, end := s.Subscribe()
				end()
				end()
			}
		})
		wg.Go(func() {
			for v := s.View(); v.Applied < changes; v = s.View() {
				if err := s.Snapshot()(io.Discard); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := uint64(1); i <= changes; i++ {
		applied(t, s, i, Note{ID: fmt.Sprint(i), What: "note"})
	}
	wg.Wait()
}

// TestSubscription: at most one poke waits, the writer never does, and one that has
// ended hears nothing.
func TestSubscription(t *testing.T) {
	s := NewStore()
	poke, end := s.Subscribe()
	silent, endSilent := s.Subscribe()
	endSilent()
	for i := uint64(1); i <= 3; i++ {
		applied(t, s, i, Note{What: "note"})
	}
	<-poke
	select {
	case <-poke:
		t.Error("three changes gave more than one poke to a reader that slept")
	case <-silent:
		t.Error("a poke after the end")
	default:
	}
	var b bytes.Buffer
	if err := s.Snapshot()(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(&b); err != nil {
		t.Fatal(err)
	}
	select {
	case <-poke:
	default:
		t.Error("a restore changed the table and poked nobody")
	}
	end()
	applied(t, s, 4, Note{What: "note"})
	select {
	case <-poke:
		t.Error("a poke after the end")
	default:
	}
}

// TestWaitEndsWith a restore that has the index, and with an entry that stops the
// store; an index that is there already needs no more.
func TestWaitEndsWith(t *testing.T) {
	ahead := NewStore()
	for i := uint64(1); i <= 5; i++ {
		applied(t, ahead, i, Note{What: "note"})
	}
	var b bytes.Buffer
	if err := ahead.Snapshot()(&b); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		got, lost := make(chan error, 1), make(chan error, 1)
		go func() {
			v, err := s.Wait(t.Context(), 5)
			if err == nil && v.Applied != 5 {
				err = fmt.Errorf("applied %d", v.Applied)
			}
			got <- err
		}()
		go func() {
			_, err := s.Wait(t.Context(), 6)
			lost <- err
		}()
		synctest.Wait()
		if err := s.Restore(&b); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Errorf("after a restore: %v", err)
		}
		synctest.Wait()
		select {
		case err := <-lost:
			t.Fatalf("an index that is not there: %v", err)
		default:
		}
		s.Apply(6, 1, []byte("no command at all"))
		if err := <-lost; !errors.Is(err, ErrCorrupt) {
			t.Errorf("after a broken entry: %v", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if v, err := s.Wait(ended, 5); err != nil || v.Applied != 5 {
			t.Errorf("an index that is there: %v", err)
		}
	})
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
	sealed := func(body string) []byte {
		b := binary.BigEndian.AppendUint32([]byte(snapshotMagic), crc32.Checksum([]byte(body), castagnoli))
		return append(b, body...)
	}
	turned := bytes.Clone(before)
	turned[bytes.LastIndexByte(turned, 'c')] = 'd'
	for name, b := range map[string][]byte{
		"a letter turned": turned, "a newer column": sealed(`{"new":1}`), "more than a state": sealed(`{}{}`), "an end too many": sealed(`{}}`),
		"no state": sealed(``), "nothing": nil, "another file": []byte("not a snapshot at all"), "cut off": before[:len(before)-1],
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
