package consensus

import (
	"fmt"
	"time"
)

// Timings are the clocks and sizes that depend on the network between the nodes
// and on their disks. Profile returns the three sets that are meant to be used.
type Timings struct {
	Heartbeat   time.Duration // a follower that hears nothing for so long asks for votes
	Election    time.Duration // a candidate that has not won in it (and up to twice it) asks again
	LeaderLease time.Duration // a leader that reaches no quorum for so long steps down
	Commit      time.Duration // an idle leader tells followers the commit index this often

	RPC   time.Duration // one message and its answer, a write to the follower's disk included
	Stall time.Duration // a write to disk that takes longer fences the node
	// Stable is how long a new member must keep up without a break until it gets its
	// vote: several elections, so that one that comes and goes does not stop writes.
	Stable time.Duration

	SnapshotInterval  time.Duration // how often the threshold is looked at
	SnapshotThreshold uint64        // commands since the last snapshot that make a new one
	TrailingLogs      uint64        // commands kept behind a snapshot, so that a follower can catch up from the log
}

// commandRate is what a busy cluster of three commits each second: turns and
// request counts of each node in runs of about 50 ms, plus the leader's.
const commandRate = 200

// trailingTime is how long a node may be away and still catch up from the log.
// One that is away longer needs a snapshot; a reserve shorter than sending one
// takes would make it need the next snapshot too (hashicorp/raft#697).
const trailingTime = 120 * time.Second

// Profile returns the timings for one of the networks orch knows: "lan" (one
// switch or one host), "cloud" (zones of one region) or "wan" (regions).
func Profile(name string) (Timings, error) {
	t := Timings{
		// 8,192 commands are about 40 s of a busy cluster and replay in well
		// under a second.
		SnapshotThreshold: 8192,
		SnapshotInterval:  30 * time.Second,
		TrailingLogs:      commandRate * uint64(trailingTime/time.Second),
	}
	switch name {
	case "lan":
		// A round trip takes under 1 ms and an fsync 1-5 ms; 300 ms is 60 times
		// that, and replaces a dead leader in about half a second.
		t.Heartbeat, t.Election = 300*time.Millisecond, 300*time.Millisecond
		// Not above Heartbeat (Raft refuses that): an old leader has stepped
		// down by the time that a new one can have been elected.
		t.LeaderLease = 250 * time.Millisecond
		// How late an idle follower hears of a commit: once to twice this. It is
		// paid twice in a repair of half a second. At 25 ms the messages were half
		// of what an idle leader costs, 1.3% of a core.
		t.Commit = 75 * time.Millisecond
		// Longer than the longest write that is not a stall.
		t.RPC, t.Stall, t.Stable = 2*time.Second, time.Second, 2*time.Second
	case "cloud":
		// Round trips of 1-3 ms between zones; network disks stall for 100-200
		// ms now and then, which must not look like a death.
		t.Heartbeat, t.Election = time.Second, time.Second
		t.LeaderLease = 750 * time.Millisecond
		t.Commit = 50 * time.Millisecond // hashicorp/raft's own choice
		t.RPC, t.Stall, t.Stable = 5*time.Second, 3*time.Second, 5*time.Second
	case "wan":
		// Round trips of 50-200 ms with losses: one retransmission (up to 1 s
		// with back-off) must fit into a heartbeat time-out.
		t.Heartbeat, t.Election = 3*time.Second, 3*time.Second
		t.LeaderLease = 2500 * time.Millisecond
		t.Commit = 200 * time.Millisecond // at most one round trip more
		t.RPC, t.Stall, t.Stable = 10*time.Second, 5*time.Second, 10*time.Second
	default:
		return Timings{}, fmt.Errorf("profile %q: choose \"lan\", \"cloud\" or \"wan\"", name)
	}
	return t, nil
}
