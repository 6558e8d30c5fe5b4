package consensus

import (
	"syscall"
	"testing"
)

// TestFencedFollowerHearsNoLeader: Raft's loop waits for the disk and names the last one
// on, but the node is told of nothing any more, and the leader notes its silence.
func TestFencedFollowerHearsNoLeader(t *testing.T) {
	c, disks := faultyCluster(t, 3, nil)
	leader := c.leader()
	full := c.others(leader)[0]
	until(t, "it hears the leader", func() bool { return full.Leaderless().IsZero() && !full.Fenced() })
	disks[full.cfg.ID].fail(syscall.ENOSPC)
	c.propose("meets the full disk", full)
	until(t, "it says that it hears none, since when, and why", func() bool {
		s := full.Status()
		return s.Fenced && full.Fenced() && !s.Leaderless.IsZero()
	})
	until(t, "the leader's heartbeats do not reach it", func() bool {
		_, silent := c.leader(full).Silent()[full.cfg.ID]
		return silent
	})
	disks[full.cfg.ID].fail(nil)
	until(t, "it hears the leader again", func() bool { return full.Leaderless().IsZero() && !full.Fenced() })
	until(t, "and is heard", func() bool { return len(c.leader().Silent()) == 0 })
	c.agree("meets the full disk")
}

// TestLeaderlessEndsAtOnce: who is told that a leader is there finds it in the status too,
// however soon the question.
func TestLeaderlessEndsAtOnce(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	for range 3 {
		s.close(t)
		c.reopen(s)
		until(t, "it says that it hears none", func() bool { return !s.Leaderless().IsZero() })
		if !<-s.Leadership() {
			t.Fatal("the first word is not true")
		}
		if since := s.Leaderless(); !since.IsZero() {
			t.Fatalf("leads, and says that it has heard no leader since %v", since)
		}
	}
}
