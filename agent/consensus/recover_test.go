package consensus

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// Two of three are gone for good: the one that is left leads alone with all it had,
// also what was never committed, and takes new members.
func TestRecoverFromTheLastOne(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose("before")
	c.agree("before")
	leader := c.leader()
	for _, s := range c.others(leader) {
		s.close(t)
	}
	_, _, err := leader.Propose(within(t, patience), []byte("never committed"))
	if err == nil {
		t.Fatal("committed by one of three")
	}
	until(t, "it does not lead any more", func() bool { return !leader.leading.Load() })
	failsToRecover(t, leader)
	if err := leader.Recover(within(t, patience), &list{}, func() {}); err != nil {
		t.Fatal(err)
	}
	c.servers = []*server{leader}
	c.leader()
	c.propose("after")
	c.agree("before", "never committed", "after")
	if all, err := leader.Members(); err != nil || len(all) != 1 || !all[0].Voter {
		t.Errorf("members %+v, %v", all, err)
	}
	for i, e := range leader.list.all() {
		for _, o := range leader.list.all()[:i] {
			if o.Data == e.Data {
				t.Errorf("%q was applied twice", e.Data)
			}
		}
	}

	// It lasts: the same after a restart.
	leader.close(t)
	c.reopen(leader)
	c.propose("after the restart")
	c.agree("before", "never committed", "after", "after the restart")

	fresh := c.open(c.config("n9"))
	c.servers = append(c.servers, fresh)
	if err := c.leader().AddVoter(within(t, patience), "n9", fresh.Addr()); err != nil {
		t.Fatal(err)
	}
	c.agree("before", "never committed", "after", "after the restart")
}

// full is a machine whose snapshot finds no room on the disk.
type full struct{ list }

func (*full) Snapshot() func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<16))
		return errors.Join(err, syscall.ENOSPC)
	}
}

// failsToRecover: nothing has changed after it, and its rests take no room.
func failsToRecover(t *testing.T, s *server) {
	t.Helper()
	err := s.Recover(within(t, patience), &full{}, func() { t.Error("it is said to be recovered") })
	if err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("recovered without room: %v", err)
	}
	if all, err := s.Members(); err != nil || len(all) != 3 {
		t.Errorf("members %+v, %v", all, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.cfg.Dir, snapshotFolder, "*"+tmpSuffix)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRecoverWantsEveryEntry: where the newest snapshot can not be read any more an older
// one is taken, and the entries behind it; one that is missing there is not passed over,
// though a follower knows its term.
func TestRecoverWantsEveryEntry(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.Timings.TrailingLogs = 0 })
	s := c.leader()
	c.propose("first")
	must(t, s.raft.Load().Snapshot().Error())
	if _, _, err := s.Propose(within(t, patience), []byte("missing")); err != nil {
		t.Fatal(err)
	}
	must(t, s.raft.Load().Snapshot().Error())
	c.propose("last")
	all, err := s.snaps.List()
	must(t, err)
	if len(all) != 2 || all[0].Index != all[1].Index+1 {
		t.Fatalf("snapshots %+v", all)
	}
	state := filepath.Join(s.cfg.Dir, snapshotFolder, all[0].ID, stateFile)
	rotten, err := os.ReadFile(state)
	must(t, err)
	rotten[0] ^= 1
	must(t, os.WriteFile(state, rotten, 0o600))
	err = s.Recover(within(t, patience), &list{}, func() { t.Error("it is said to be recovered") })
	if err == nil || !strings.Contains(err.Error(), raft.ErrLogNotFound.Error()) {
		t.Errorf("recovered without entry %d: %v", all[0].Index, err)
	}
}

// RecoverCluster fails when the recovery is on disk already: that is told, for the next
// start goes on from it.
func TestRecoveredThoughItsLogCannotBeCut(t *testing.T) {
	c, disks := faultyCluster(t, 1, nil)
	c.propose("before")
	s := c.leader()
	disks[s.cfg.ID].fail(syscall.ENOSPC)
	told, ended := false, make(chan error, 1)
	go func() { ended <- s.Recover(within(t, patience), &list{}, func() { told = true }) }()
	until(t, "it waits for room", func() bool { return s.Status().Fenced })
	s.close(t)
	if err := <-ended; err == nil {
		t.Error("it is said that the log was cut")
	}
	disks[s.cfg.ID].fail(nil)
	c.reopen(s)
	c.propose("after")
	c.agree("before", "after")
	if snap, err := s.snaps.newest(); err != nil || snap == nil || !told {
		t.Errorf("snapshot %+v, %v; told: %t", snap, err, told)
	}
}

// Of two survivors one is recovered and the other forgets: its log is set aside, its
// readers keep the last state, and it becomes a member again.
func TestForgetAndFollow(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose("before")
	c.agree("before")
	leader := c.leader()
	survivors := c.others(leader)
	leader.close(t)
	kept, other := survivors[0], survivors[1]
	aside, err := other.Forget(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(aside, dbFile)); err != nil {
		t.Error(err)
	}
	if other.HasState() {
		t.Error("it still has a log")
	}
	if !other.list.has("before") {
		t.Error("readers of the machine have lost the last state")
	}
	if err := kept.Recover(within(t, patience), &list{}, func() {}); err != nil {
		t.Fatal(err)
	}
	c.servers = []*server{kept, other}
	c.propose("after", other)
	if err := c.leader(other).AddVoter(within(t, patience), other.cfg.ID, other.Addr()); err != nil {
		t.Fatal(err)
	}
	c.agree("before", "after")
	other.close(t)
	c.reopen(other)
	c.agree("before", "after")
}

// A node that the cluster goes on without is not heard by a majority that comes back,
// until it is included again.
func TestExcludedIsNotHeard(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose("before")
	leader := c.leader()
	if !leader.Exclude("the cluster was recovered without it") || leader.Exclude("twice is once") {
		t.Error("it does not say when it was excluded")
	}
	c.propose("after", leader)
	if leader.list.has("after") {
		t.Error("it hears the cluster")
	}
	if _, _, err := leader.Propose(within(t, patience), []byte("late")); err == nil {
		t.Error("it commits")
	}
	s := leader.Status()
	if len(s.Impaired) == 0 || s.Impaired[0].What != "excluded" || s.Impaired[0].Reason != "the cluster was recovered without it" {
		t.Errorf("impaired %+v", s.Impaired)
	}
	leader.Include("it may be heard")
	leader.Include("twice is once")
	c.agree("before", "after")
	if s := leader.Status(); len(s.Impaired) > 0 {
		t.Errorf("impaired %+v", s.Impaired)
	}
}

func TestRecoverNeedsALog(t *testing.T) {
	c := &cluster{t: t}
	s := c.open(c.config("n1"))
	if err := s.Recover(within(t, patience), &list{}, func() {}); err == nil {
		t.Fatal("a node in no cluster was recovered")
	}
	if err := s.Bootstrap(within(t, patience)); err != nil {
		t.Errorf("it is of no use any more: %v", err)
	}
	s.close(t)
	if err := s.Recover(within(t, patience), &list{}, func() {}); !errors.Is(err, ErrClosed) {
		t.Errorf("recovered after its end: %v", err)
	}
}

// Holds names the newest entry, of whatever kind.
func TestHolds(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.propose("x")
	leader := c.leader()
	before := leader.Status()
	term, index := leader.Holds()
	if after := leader.Status(); term != after.Term || index < before.LastIndex || index > after.LastIndex || index == 0 {
		t.Errorf("holds term %d index %d, between %+v and %+v", term, index, before, after)
	}
}
