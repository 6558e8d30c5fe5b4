package consensus

import (
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Status is a node's own view of itself.
type Status struct {
	ID          string
	State       string // leader, follower, candidate or shutdown
	Voter       bool
	LeaderID    string // "" when unknown
	LeaderAddr  string
	Term        uint64
	Commit      uint64
	Applied     uint64
	LastIndex   uint64
	LastContact time.Time // with a leader; zero when there was none
	Leaderless  time.Time // since when this node hears no leader; zero while it hears one
	DBBytes     int64     // size of raft.db, which never shrinks
	DiskP999    time.Duration
	Fenced      bool
	Impaired    []Impairment // what is wrong, the worst first
}

// Impairment is one thing that is wrong with this node's consensus.
type Impairment struct {
	What   string // "fenced", "slow disk", "restarted"
	Reason string
	Since  time.Time
}

// Status returns the node's state. It waits for nothing but a look at the size
// of raft.db.
func (n *Node) Status() Status {
	r := n.raft.Load()
	s := Status{
		ID: n.cfg.ID, Term: r.CurrentTerm(), Commit: r.CommitIndex(), Applied: r.AppliedIndex(),
		LastIndex: r.LastIndex(), LastContact: r.LastContact(), DiskP999: n.pace.p999(),
	}
	s.LeaderID, s.LeaderAddr = n.Leader()
	s.Leaderless = n.Leaderless()
	switch state := r.State(); {
	case n.leading.Load():
		s.State = "leader"
	case state == raft.Candidate:
		s.State = "candidate"
	case state == raft.Shutdown:
		s.State = "shutdown"
	default:
		s.State = "follower" // a leader that is fenced leads nobody
	}
	if m, ok, err := n.member(n.cfg.ID); err == nil && ok {
		s.Voter = m.Voter
	}
	if info, err := os.Stat(filepath.Join(n.cfg.Dir, dbFile)); err == nil {
		s.DBBytes = info.Size()
	}
	var reason string
	var since time.Time
	if s.Fenced, reason, since = n.fence.state(); s.Fenced {
		s.Impaired = append(s.Impaired, Impairment{What: "fenced", Reason: reason, Since: since})
	}
	s.Impaired = append(s.Impaired, n.watching.impaired()...)
	return s
}

// Fenced says whether the disk takes no writes, so that this node acknowledges nothing.
func (n *Node) Fenced() bool { return n.fence.isUp() }

// Leader returns the leader that this node knows of, or "" and "". A node whose
// own leadership a fence has ended does not name itself.
func (n *Node) Leader() (id, addr string) {
	a, i := n.raft.Load().LeaderWithID()
	if string(i) == n.cfg.ID && !n.leading.Load() {
		return "", ""
	}
	return string(i), string(a)
}

// Leadership tells when this node begins (true) and ends (false) to lead. It
// holds one value, the newest: true after true means lost and regained. One
// goroutine reads it.
func (n *Node) Leadership() <-chan bool { return n.leadership }
