// Package membership knows which nodes of the cluster are there, by gossip with
// hashicorp/memberlist, and what they say of themselves.
//
// It owns the gossip port and the roll of nodes. It promises that Members never
// blocks and never forgets one that the table still names, and that Kick has
// something in it after each change. Its word is a hint: it knows nothing of
// Raft, decides nothing, and a node that it calls dead may be alive behind a bad
// link.
package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrDuplicate means that another living node has this node's ID.
	ErrDuplicate = errors.New("node ID is in use")
	// ErrNotRunning means that Run has not begun or has ended.
	ErrNotRunning = errors.New("gossip is not running")
)

// Config is what gossip needs to know.
type Config struct {
	ID        string   // of this node
	BindAddr  string   // one IP address, which the others dial
	BindPort  int      // tcp and udp
	ClusterID string   // packets with another are dropped
	Keys      [][]byte // encrypt and authenticate, 32 bytes each; the first is written with. None is plain, on loopback alone
	Meta      Meta
	Timings   Timings // from Profile
	// Allow says why a node is not welcome. It is called under memberlist's lock:
	// it must return at once and call nothing of this List. nil lets in everybody
	// with the cluster's ID and key.
	Allow func(id, addr string) error
	// Gone says whether those at an address have left, so that its silence is no
	// trouble; nil: nobody has.
	Gone     func(addr string) bool
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil: no metrics
}

// Conflict tells that one ID is claimed from two addresses.
type Conflict struct {
	ID    string
	Addr  string // the one that counts
	Other string // the one that is ignored
}

// List is this node's view of the cluster.
type List struct {
	cfg       Config
	log       *slog.Logger
	roll      *roll
	keys      *memberlist.Keyring // nil is plain
	conflicts chan Conflict       // 1-buffered, the newest wins
	claimed   chan string         // 1-buffered: an address that claims our ID
	ready     chan struct{}
	update    chan struct{} // 1-buffered: the metadata has changed
	claimant  string        // the newest that Run has logged

	// telling is held while an update goes out: a second one would replace the
	// first before anybody has heard it.
	telling sync.Mutex

	mu      sync.Mutex
	meta    wireMeta
	wire    []byte // meta as it travels
	gossip  *memberlist.Memberlist
	addr    string
	trouble error
	since   time.Time // of the trouble
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*List, error) {
	ip := net.ParseIP(cfg.BindAddr)
	switch {
	case cfg.ID == "" || cfg.ClusterID == "":
		return nil, errors.New("gossip needs a node ID and a cluster ID")
	case len(cfg.ClusterID) > memberlist.LabelMaxSize:
		return nil, fmt.Errorf("cluster ID has %d bytes, at most %d", len(cfg.ClusterID), memberlist.LabelMaxSize)
	case ip == nil || ip.IsUnspecified():
		return nil, fmt.Errorf("gossip address %q: name one IP address of this machine", cfg.BindAddr)
	case !ip.IsLoopback() && len(cfg.Keys) == 0:
		return nil, fmt.Errorf("gossip address %q: without a key anyone can join", cfg.BindAddr)
	case cfg.Timings.ProbeInterval <= 0 || cfg.Timings.Rejoin <= 0:
		return nil, errors.New("gossip needs Timings; take them from Profile")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &List{
		cfg: cfg, log: cfg.Logger.With("node", cfg.ID), roll: newRoll(),
		conflicts: make(chan Conflict, 1), claimed: make(chan string, 1),
		ready: make(chan struct{}), update: make(chan struct{}, 1),
	}
	if len(cfg.Keys) > 0 {
		var err error
		if l.keys, err = memberlist.NewKeyring(cfg.Keys[1:], cfg.Keys[0]); err != nil {
			return nil, fmt.Errorf("gossip key: %w", err)
		}
	}
	if err := l.SetMeta(cfg.Meta); err != nil {
		return nil, err
	}
	return l, nil
}

// Members returns every node on the roll that Allow lets in, this one included,
// sorted by ID.
func (l *List) Members() []Member {
	return slices.DeleteFunc(l.roll.members(), func(m Member) bool {
		is, _ := l.welcome(m)
		return !is
	})
}

// welcome asks the table; known tells whether there is one that could say.
func (l *List) welcome(m Member) (is, known bool) {
	if m.ID == l.cfg.ID || l.cfg.Allow == nil {
		return true, m.ID == l.cfg.ID
	}
	return l.cfg.Allow(m.ID, m.Addr) == nil, true
}

// Kick has something in it after a change. One goroutine reads it.
func (l *List) Kick() <-chan struct{} { return l.roll.kick }

// Conflicts tells of IDs that are claimed twice; it holds the newest.
func (l *List) Conflicts() <-chan Conflict { return l.conflicts }

// Ready is closed when Run listens.
func (l *List) Ready() <-chan struct{} { return l.ready }

// Addr is host:port of this node's gossip, once Ready.
func (l *List) Addr() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// Impaired says what keeps this node from others and since when; an empty reason is
// nothing.
func (l *List) Impaired() (reason string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == nil {
		return "", time.Time{}
	}
	return l.trouble.Error(), l.since
}

// SetMeta changes what this node says of itself; Run tells the others.
func (l *List) SetMeta(m Meta) error {
	l.mu.Lock()
	next := wireMeta{Meta: m, Leaving: l.meta.Leaving}
	l.mu.Unlock()
	// The flag of leaving must always have room.
	if _, err := (wireMeta{Meta: m, Leaving: true}).encode(); err != nil {
		return err
	}
	if err := l.hold(next); err != nil {
		return err
	}
	select {
	case l.update <- struct{}{}:
	default:
	}
	return nil
}

// hold keeps metadata ready for the next word about this node.
func (l *List) hold(m wireMeta) error {
	wire, err := m.encode()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.meta, l.wire = m, wire
	l.mu.Unlock()
	return nil
}

// Leave says good-bye, so that the others call this node left and not dead. Run
// goes on until its context ends. A restart is not a leave.
func (l *List) Leave(ctx context.Context) error {
	l.mu.Lock()
	g, next := l.gossip, l.meta
	l.mu.Unlock()
	if g == nil {
		return fmt.Errorf("leave: %w", ErrNotRunning)
	}
	limit := l.cfg.Timings.Stream
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(d))
	}
	if limit <= 0 {
		return fmt.Errorf("leave: %w", context.Cause(ctx))
	}
	next.Leaving = true
	if err := l.hold(next); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	l.telling.Lock()
	defer l.telling.Unlock()
	if err := g.UpdateNode(limit); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := g.Leave(limit); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// create starts memberlist.
func (l *List) create() (*memberlist.Memberlist, error) {
	c := l.config()
	t, err := listen(c)
	if err != nil {
		return nil, l.cannotListen(err)
	}
	c.Transport = t
	g, err := memberlist.Create(c)
	if err != nil {
		return nil, errors.Join(l.cannotListen(err), t.Shutdown())
	}
	return g, nil
}

func (l *List) cannotListen(err error) error {
	return fmt.Errorf("listen for gossip on %s: %w; stop what uses the address, or choose another with --gossip-addr",
		net.JoinHostPort(l.cfg.BindAddr, strconv.Itoa(l.cfg.BindPort)), err)
}

func (l *List) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	l.cfg.Timings.apply(c)
	c.Name, c.Label = l.cfg.ID, l.cfg.ClusterID
	c.BindAddr, c.BindPort = l.cfg.BindAddr, l.cfg.BindPort
	c.AdvertiseAddr, c.AdvertisePort = l.cfg.BindAddr, l.cfg.BindPort
	c.Keyring = l.keys
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.EnableCompression = false // messages are small, and unpacking is a way to be hurt
	d := delegate{l}
	c.Delegate, c.Events, c.Alive, c.Conflict, c.Ping = d, d, d, d, d
	c.Logger = log.New(newLogWriter(l.log), "", 0)
	return c
}
