package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faultyCluster gives each node a disk whose faults the test chooses.
func faultyCluster(t *testing.T, n int, edit func(i int, cfg *Config)) (*cluster, map[string]*faulty) {
	disks := map[string]*faulty{}
	c := newCluster(t, n, func(i int, cfg *Config) {
		f := &faulty{}
		disks[cfg.ID] = f
		cfg.wrapDisk = f.wrap
		if edit != nil {
			edit(i, cfg)
		}
	})
	return c, disks
}

// smallDisk mounts a tmpfs of 4 MiB on dir. It reports false where the test may
// not mount, which is an error in CI.
func smallDisk(t *testing.T, dir string) bool {
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small disk: %v; CI runs this test as root", err)
		}
		return false
	}
	t.Cleanup(func() {
		// Detached: Raft leaves the file of a failed snapshot to the collector.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return true
}

// fullable makes three nodes of which n1 has a disk that can be filled: a small
// real one, or a pretended one where the test may not mount.
func fullable(t *testing.T) (c *cluster, fill, empty func()) {
	pretended := &faulty{}
	fill, empty = func() { pretended.fail(syscall.ENOSPC) }, func() { pretended.fail(nil) }
	c = newCluster(t, 3, func(_ int, cfg *Config) {
		if cfg.ID != "n1" {
			return
		}
		cfg.wrapDisk = pretended.wrap
		if !smallDisk(t, cfg.Dir) {
			return
		}
		ballast := filepath.Join(cfg.Dir, "ballast")
		fill = func() { fillDisk(t, ballast) }
		empty = func() { must(t, os.Remove(ballast)) }
	})
	return c, fill, empty
}

// fillDisk writes to path until there is no room.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestFullDiskOfLeader(t *testing.T) {
	c, fill, empty := fullable(t)
	full := c.servers[0]
	for l := c.leader(); l != full; l = c.leader() {
		if err := l.Transfer(within(t, patience), full.cfg.ID); err != nil {
			t.Log(err)
		}
	}
	c.propose("before")
	drain(full.Leadership())
	fill()
	// The file has free pages inside; large commands use them up.
	var err error
	until(t, "the node is fenced", func() bool {
		_, _, err = full.Propose(within(t, time.Second), []byte(strings.Repeat("x", MaxCommand)))
		return full.Status().Fenced
	})
	if leads := <-full.Leadership(); leads {
		t.Error("a full node says that it leads")
	}
	if _, _, err = full.Propose(within(t, time.Second), []byte("refused")); !errors.Is(err, ErrFenced) {
		t.Errorf("propose on a full node: %v, want ErrFenced", err)
	}
	s := full.Status()
	if s.State == "leader" || s.LeaderID == full.cfg.ID || len(s.Impaired) == 0 || !strings.Contains(s.Impaired[0].Reason, "no space left") {
		t.Errorf("status %+v", s)
	}
	c.propose("meanwhile", full)
	if !full.list.has("before") {
		t.Error("the full node has lost its state")
	}
	empty()
	until(t, "the fence is lifted", func() bool { return !full.Status().Fenced })
	c.propose("after")
	c.agree("before", "meanwhile", "after")
	if full.list.has("refused") {
		t.Error("a refused command was applied")
	}
}

func drain(ch <-chan bool) {
	select {
	case <-ch:
	default:
	}
}

// Raft panics when it cannot save a term, and forgets what it was doing when it
// cannot save a vote or cut its log. Neither may happen to a follower.
func TestFailingDiskOfFollowers(t *testing.T) {
	c, disks := faultyCluster(t, 3, nil)
	old := c.leader()
	sick := c.others(old)
	for _, s := range sick {
		disks[s.cfg.ID].fail(syscall.EIO)
	}
	old.close(t) // the others want to elect, which needs a term
	// The first that wants to be elected is; the other one cannot win without it.
	until(t, "one is fenced", func() bool { return sick[0].Status().Fenced || sick[1].Status().Fenced })
	for _, s := range sick {
		disks[s.cfg.ID].fail(nil)
	}
	c.propose("healed", old)
	c.agreeAmong(sick, "healed")
}

func TestStalledDiskOfLeader(t *testing.T) {
	c, disks := faultyCluster(t, 3, nil)
	c.propose("before")
	old := c.leader()
	drain(old.Leadership())
	resume := disks[old.cfg.ID].stall()
	defer resume()
	start := time.Now()
	_, _, err := old.Propose(within(t, patience), []byte("stuck"))
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrFenced) {
		t.Fatalf("propose into a stalled disk: %v, want ErrUnknown and nothing definite", err)
	}
	if d := time.Since(start); d > 5*old.cfg.Timings.Stall {
		t.Errorf("fenced after %v", d)
	}
	fresh := c.leader(old)
	t.Logf("another leader %v after the stall began", time.Since(start))
	c.propose("meanwhile", old)
	resume()
	until(t, "the fence is lifted", func() bool { return !old.Status().Fenced })
	c.agree("before", "meanwhile")
	if l := c.leader(); l == old && fresh.leading.Load() {
		t.Error("two leaders")
	}
}

// Alone, a node whose fence is lifted still leads, and says so only after a
// commit has shown it.
func TestFenceOfASingleNode(t *testing.T) {
	c, disks := faultyCluster(t, 1, nil)
	s := c.leader()
	<-s.Leadership()
	disks[s.cfg.ID].fail(syscall.ENOSPC)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, _, err := s.Propose(ctx, []byte("waits")); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	if <-s.Leadership() {
		t.Fatal("fenced, and says that it leads")
	}
	if id, _ := s.Leader(); id != "" {
		t.Fatalf("fenced, and names %s", id)
	}
	disks[s.cfg.ID].fail(nil)
	if !<-s.Leadership() {
		t.Fatal("healed, and does not lead")
	}
	if !s.list.has("waits") {
		t.Error("what was retried until it landed is not applied")
	}
	c.propose("again")
}

func TestCloseWhileFenced(t *testing.T) {
	c, disks := faultyCluster(t, 1, nil)
	s := c.leader()
	disks[s.cfg.ID].fail(syscall.EIO)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range 3 { // one is stuck in the write, the others in the queue
		if _, _, err := s.Propose(ctx, []byte(fmt.Sprint(i))); err == nil {
			t.Fatal("accepted by a broken disk")
		}
	}
	start := time.Now()
	s.close(t)
	if d := time.Since(start); d > patience/2 {
		t.Errorf("closed after %v", d)
	}
}

// A write that never returns cannot be waited for; Close says so in time.
func TestCloseWhileStalled(t *testing.T) {
	disks := &faulty{}
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.wrapDisk = disks.wrap; cfg.StallLimit = 50 * time.Millisecond })
	s := c.leader()
	resume := disks.stall()
	if _, _, err := s.Propose(within(t, patience), []byte("x")); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := s.Node.Close(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v, want the deadline", err)
	}
	s.closeErr = nil // the cleanup closes again, which is closing once
	resume()         // so that nothing is left behind
	<-s.ended
}

// hashicorp/raft#661: candidate first, term second.
func TestVoteIsWrittenCandidateFirst(t *testing.T) {
	c, disks := faultyCluster(t, 1, nil)
	s := c.leader()
	d := disks[s.cfg.ID]
	stable := &stableStore{disk: d, fence: s.fence}
	d.mu.Lock()
	d.wrote = nil
	d.mu.Unlock()
	if err := stable.SetUint64([]byte(keyLastVoteTerm), 99); err != nil {
		t.Fatal(err)
	}
	if v, err := stable.GetUint64([]byte(keyLastVoteTerm)); err == nil && v == 99 {
		t.Fatal("the term of a vote is on disk before its candidate")
	}
	if err := stable.Set([]byte(keyLastVoteCand), []byte("x")); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if want := []string{keyLastVoteCand, keyLastVoteTerm}; !slices.Equal(d.wrote, want) {
		t.Fatalf("wrote %v, want %v", d.wrote, want)
	}
	if v, err := stable.GetUint64([]byte(keyLastVoteTerm)); err != nil || v != 99 {
		t.Fatalf("read back %d, %v", v, err)
	}
}
