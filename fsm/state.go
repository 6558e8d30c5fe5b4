// Package fsm is the replicated state of a cluster: the container table, the
// turn, the services, the nodes and what the control loops must remember.
//
// It owns the meaning of every command. It promises that Apply is a pure
// function of (state, command): no clock, no chance, no I/O, no map order, so
// that equal logs give equal snapshot bytes on every node. A published *State
// is never written to again; readers keep it as long as they like.
//
// It never talks to Raft, Docker or the network.
package fsm

// Phase is where a container is on its way. Phases of one generation only go
// forward; a relaunch is a new generation.
type Phase string

// The phases, in the order in which a generation passes them.
const (
	Pending  Phase = "pending"
	Starting Phase = "starting"
	Running  Phase = "running"
	Draining Phase = "draining"
	Stopped  Phase = "stopped"
)

// rank orders the phases; an unknown phase has no rank (-1).
func (p Phase) rank() int {
	switch p {
	case Pending:
		return 0
	case Starting:
		return 1
	case Running:
		return 2
	case Draining:
		return 3
	case Stopped:
		return 4
	}
	return -1
}

// NodeStatus is what the leader believes of a node.
type NodeStatus string

// The states of a node, as `orchctl nodes` prints them.
const (
	NodeAlive    NodeStatus = "alive"
	NodeSuspect  NodeStatus = "suspect"
	NodeDead     NodeStatus = "dead"
	NodeLeft     NodeStatus = "left"
	NodeDraining NodeStatus = "draining"
)

func (s NodeStatus) valid() bool {
	switch s {
	case NodeAlive, NodeSuspect, NodeDead, NodeLeft, NodeDraining:
		return true
	}
	return false
}

// gone says whether a node has ended, as far as anybody knows: others may take its
// addresses, and it may come back at another one.
func (s NodeStatus) gone() bool { return s == NodeDead || s == NodeLeft }

// State is one version of the replicated state. All slices are sorted by their
// keys. It is immutable once published by a Store.
type State struct {
	ClusterID string `json:"cluster_id"`
	// Applied is the index of the last command applied, Term its Raft term.
	Applied uint64 `json:"applied"`
	Term    uint64 `json:"term"`
	// Changed is the index that last changed more than turns and counts.
	Changed uint64 `json:"changed"`
	// Stamp is the newest time seen in a command, in milliseconds since the
	// Unix epoch. It is the only clock of the state and never goes back.
	Stamp int64 `json:"stamp"`

	// TurnFloor is above every turn of the services that are gone: one that comes
	// back under an old name begins here, so that no turn is issued twice.
	TurnFloor uint64 `json:"turn_floor,omitempty"`

	Services   []Service   `json:"services,omitempty"`   // by Name
	Containers []Container `json:"containers,omitempty"` // by Service, Number
	Nodes      []Node      `json:"nodes,omitempty"`      // by ID
	Leases     []Lease     `json:"leases,omitempty"`     // by Service, Node
	Events     []Event     `json:"events,omitempty"`     // oldest first, at most MaxEvents

	Trust Trust `json:"trust,omitzero"`
}

// Service is a spec and what the cluster knows about the service as a whole.
type Service struct {
	Name string `json:"name"`
	Spec Spec   `json:"spec"`
	// Revisions are the specs it has had, oldest first, at most MaxRevisions and
	// those that a row still runs. The last one has Spec.
	Revisions []Revision `json:"revisions,omitempty"`
	// Index is the index that last touched this service, turns and counts aside.
	Index uint64 `json:"index"`
	// Manual is the number of containers set by hand; 0 means automatic.
	Manual int `json:"manual,omitempty"`
	// Removing is true once the service is to go; its containers drain first.
	Removing bool `json:"removing,omitempty"`
	// Turn is the next turn to be issued.
	Turn uint64 `json:"turn"`
	// Buckets count the requests served, one bucket a second, oldest first.
	Buckets []Bucket `json:"buckets,omitempty"`
	// Decision is the last scale decision.
	Decision Decision `json:"decision"`
}

// Outcome is how the roll-out of a revision has ended, or that it has not.
type Outcome string

// The outcomes of a roll-out.
const (
	Rolling  Outcome = "rolling"
	Good     Outcome = "good"
	Failed   Outcome = "failed"
	Replaced Outcome = "replaced" // by another before its end
)

// Revision is one version of a service's spec, and what became of it.
type Revision struct {
	Number uint64 `json:"number"` // from 1
	// Build names the containers that the spec asks for: the number of the revision
	// that first asked for these. Revisions of one build differ only in what no
	// container has to be replaced for.
	Build uint64 `json:"build"`
	Spec  Spec   `json:"spec"`
	// ImageID is what the spec's image meant where it was applied; empty if unknown.
	ImageID string `json:"image_id,omitempty"`
	At      int64  `json:"at"` // stamp, ms
	By      string `json:"by,omitempty"`
	Why     string `json:"why,omitempty"`
	// From is the revision that this one takes the service back to, or 0.
	From uint64 `json:"from,omitempty"`
	// Restart tells repeated requests for new containers of one spec apart.
	Restart string  `json:"restart,omitempty"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
	Ended   int64   `json:"ended,omitempty"` // stamp of the outcome, ms
}

// Bucket counts the requests that were reported within one second.
type Bucket struct {
	Second int64  `json:"s"` // seconds since the Unix epoch
	Count  uint64 `json:"n"`
}

// Decision is how many containers a service shall have, and why.
type Decision struct {
	Desired  int    `json:"desired"`
	Requests uint64 `json:"requests"` // in the window, when it was decided
	At       int64  `json:"at"`       // stamp, ms
	Reason   string `json:"reason"`
}

// Container is a row of the table. Its key is Service and Number.
type Container struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	Node       string `json:"node"`
	Port       int    `json:"port"`
	// Status is true while the container answers its health API.
	Status bool `json:"status"`
	// Desired is running, draining or stopped: the leader's will.
	Desired Phase `json:"desired"`
	// Observed is pending, starting, running or stopped: what its node saw.
	Observed Phase `json:"observed"`
	// LocalAddr is host:port of the container on its own node's bridge, or
	// empty where only the published port answers.
	LocalAddr string `json:"local_addr,omitempty"`
	// Build is the build (see Revision) that this generation is of.
	Build uint64 `json:"build"`
	// Began is the stamp (ms) at which the row came to its build, or to its node
	// with it; Proven that it has been healthy since.
	Began  int64 `json:"began"`
	Proven bool  `json:"proven,omitempty"`
	// NextNode is where the row begins anew once it has been drained and has
	// stopped; empty where it goes.
	NextNode string `json:"next_node,omitempty"`
	// StandIn is true on a row that was placed to serve while others begin anew: it is
	// the first to go.
	StandIn bool   `json:"stand_in,omitempty"`
	Image   string `json:"image"`
	ImageID string `json:"image_id,omitempty"` // the one to run where it is there
	Reason  string `json:"reason,omitempty"`
	// PortTaken is true when the node found the port in use by someone else.
	PortTaken bool `json:"port_taken,omitempty"`
	// Failures counts relaunches since it was last healthy for long.
	Failures int `json:"failures,omitempty"`
	// RetryAt is the stamp (ms) before which it is not relaunched; 0 is none.
	RetryAt int64 `json:"retry_at,omitempty"`
	// Since is the stamp (ms) at which Status last changed, or the generation began, or
	// its container did.
	Since int64 `json:"since"`
	// DrainDeadline is the stamp (ms) at which draining ends at the latest.
	DrainDeadline int64 `json:"drain_deadline,omitempty"`
	// Created is the index that placed the row, Index the one that last touched it.
	Created uint64 `json:"created"`
	Index   uint64 `json:"index"`
}

// Node is a member of the cluster. Its key is ID.
type Node struct {
	ID         string     `json:"id"`
	Addr       string     `json:"addr"`        // host that containers are published on
	APIAddr    string     `json:"api_addr"`    // host:port
	RaftAddr   string     `json:"raft_addr"`   // host:port
	GossipAddr string     `json:"gossip_addr"` // host:port
	ProxyAddr  string     `json:"proxy_addr"`  // host:port
	Version    string     `json:"version"`
	Status     NodeStatus `json:"status"`
	Reason     string     `json:"reason,omitempty"`
	Since      int64      `json:"since"` // stamp of the last change of Status, ms
	// DrainDeadline is set while the node shall have no containers: the stamp (ms)
	// at which they go without waiting for a stand-in.
	DrainDeadline int64 `json:"drain_deadline,omitempty"`
	// Leaves is set while a node that was told to leave is dead: it goes on with that
	// when it returns.
	Leaves bool `json:"leaves,omitempty"`
	// Key is the digest of the public key that its certificate is for.
	Key   string `json:"key,omitempty"`
	Index uint64 `json:"index"`
}

// Lease is the last run of turns that a node took of a service. It makes a
// repeated TakeTurns give the same run and count once.
type Lease struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"` // one life of the node's daemon
	Seq     uint64 `json:"seq"`
	From    uint64 `json:"from"`
	Count   uint64 `json:"count"`
}

// Event is one change that a person may want to know about.
type Event struct {
	Index   uint64 `json:"index"`
	At      int64  `json:"at"` // stamp, ms
	Kind    string `json:"kind"`
	Service string `json:"service,omitempty"`
	Number  int    `json:"number,omitempty"`
	Node    string `json:"node,omitempty"`
	Reason  string `json:"reason,omitempty"`
	By      string `json:"by,omitempty"` // who asked for it; empty for the cluster itself
	// ID tells repeated notes apart; see Note.
	ID string `json:"id,omitempty"`
}

// Limits of the state.
const (
	// MaxEvents is the length of the ring of events: a thousand lines are
	// more than a night of trouble and under 200 KiB.
	MaxEvents = 1000
	// MaxRevisions of a service are kept: two weeks of a release a day, and with the
	// largest specs under a megabyte.
	MaxRevisions = 10
	// MaxReason is the longest reason kept, in bytes: one line of a terminal.
	MaxReason = 200
	// MaxPort is the highest port a container gets, so that a firewall rule can
	// name the range 8000-8999.
	MaxPort = 8999
	// MaxTurnsPerTake is the longest run of turns issued at once: a node that
	// serves 100,000 req/s takes 5,000 for 50 ms; 16 times that is a mistake.
	MaxTurnsPerTake = 1 << 16
)
