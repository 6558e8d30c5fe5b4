package membership

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// Timings are the clocks of gossip. Profile returns the three sets that are
// meant to be used.
type Timings struct {
	ProbeInterval  time.Duration // one other node is probed this often
	ProbeTimeout   time.Duration // an answer that takes longer is asked for through others
	SuspicionMult  int           // a suspect has so many probe intervals to object
	GossipInterval time.Duration // news goes out this often
	PushPull       time.Duration // whole states are compared with one node this often
	Stream         time.Duration // one exchange over TCP
	Rejoin         time.Duration // addresses of the table that are not alive are tried this often
}

// Profile returns the timings for one of the networks orch knows: "lan", "cloud"
// or "wan", the same names as for consensus.
func Profile(name string) (Timings, error) {
	switch name {
	case "lan":
		// With three nodes nobody can confirm a suspicion, and memberlist's own
		// values take 5-7 s to call a node dead. These take about 2 s: up to two
		// probe intervals until its turn, and three for it to object.
		return Timings{
			ProbeInterval: 300 * time.Millisecond, ProbeTimeout: 150 * time.Millisecond,
			SuspicionMult: 3, GossipInterval: 100 * time.Millisecond,
			PushPull: 10 * time.Second, Stream: 2 * time.Second, Rejoin: 2 * time.Second,
		}, nil
	case "cloud":
		// Zones of one region: round trips of 1-3 ms, with pauses of up to half
		// a second when a small instance has spent its credit.
		return Timings{
			ProbeInterval: time.Second, ProbeTimeout: 500 * time.Millisecond,
			SuspicionMult: 4, GossipInterval: 200 * time.Millisecond,
			PushPull: 30 * time.Second, Stream: 5 * time.Second, Rejoin: 5 * time.Second,
		}, nil
	case "wan":
		// memberlist's own values for the Internet: round trips of 200 ms and
		// a lost packet now and then.
		return Timings{
			ProbeInterval: 5 * time.Second, ProbeTimeout: 3 * time.Second,
			SuspicionMult: 6, GossipInterval: 500 * time.Millisecond,
			PushPull: time.Minute, Stream: 30 * time.Second, Rejoin: 15 * time.Second,
		}, nil
	default:
		return Timings{}, fmt.Errorf("profile %q: choose \"lan\", \"cloud\" or \"wan\"", name)
	}
}

const (
	// reclaimTime is how long after a node's death its ID may come back from
	// another address: longer than any profile needs to agree that it is dead.
	reclaimTime = 10 * time.Second
	// deadTime is how long the dead are still told what is said about them, so
	// that one that was only cut off can object.
	deadTime = 30 * time.Second
)

// apply fills a memberlist configuration; what is not named here keeps
// memberlist's value for a LAN.
func (t Timings) apply(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	c.SuspicionMult, c.GossipInterval = t.SuspicionMult, t.GossipInterval
	c.PushPullInterval, c.TCPTimeout = t.PushPull, t.Stream
	c.DeadNodeReclaimTime, c.GossipToTheDeadTime = reclaimTime, deadTime
}
