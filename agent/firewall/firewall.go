// Package firewall keeps the ports that containers are published on shut to
// everybody but the nodes of the cluster and this machine itself. It owns one chain
// of iptables (ip6tables for an IPv6 address), which bears the cluster's and the
// node's mark, and the jumps to it.
//
// It promises that the rules of a chain are exchanged in one step, so that no packet
// ever meets half of them; that they come back within an interval when somebody has
// flushed them; and that they outlive the daemon, as containers do, until Remove. It
// blocks only in Run and Remove, which must not run at the same time.
//
// It never changes a rule or a chain that is not its own, and decides nothing about
// other ports.
package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Config of the rules of one node.
type Config struct {
	Cluster string     // ID; with Node it names the chain
	Node    string     // ID
	Address netip.Addr // of this node: containers are published on it
	Ports   Ports      // default 8000-8999
	// Open are ports of the range on which this node serves everybody, such as its proxy's.
	Open []uint16
	// Containers returns the addresses of this node's containers on Bridge, to which a
	// neighbour can route past the published port; nil for none.
	Containers func() []netip.Addr
	// Bridge is the network that this machine's containers are in; what comes out of
	// it is let in, as is what comes from containers on other nodes. Default docker0.
	Bridge string
	// Interval of the full look; default 2 s.
	Interval time.Duration
	Logger   *slog.Logger
}

// Ports are a range, both ends included.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

func (p Ports) has(port uint16) bool { return p.First <= port && port <= p.Last }

const (
	// defaultInterval is how long a flush can leave the ports open. A look is one
	// listing of the filter table, 2 ms on a machine with a few dozen rules.
	defaultInterval = 2 * time.Second
	// markLen is the length of a mark in hexadecimal digits: two clusters on one
	// machine collide once in 16 million, and a chain's name has at most 28 bytes.
	markLen = 6
)

// State says whether the ports are shut.
type State struct {
	Reason string    // why they are not, or perhaps not; empty while they are
	Since  time.Time // of Reason
}

// Firewall keeps the rules of one node.
type Firewall struct {
	cfg   Config
	chain string
	log   *slog.Logger

	// What the last look found right and what it said, of Run alone.
	kept kept
	told []netip.Addr // the peers that the log names

	mu    sync.Mutex
	state State
}

// kept is a chain that was made: what it was made of, and how iptables shows it.
type kept struct {
	rules []string
	shown []string
}

// New checks the configuration; it changes nothing.
func New(cfg Config) (*Firewall, error) {
	if cfg.Ports == (Ports{}) {
		cfg.Ports = Ports{8000, 8999}
	}
	if cfg.Bridge == "" {
		cfg.Bridge = "docker0"
	}
	if cfg.Containers == nil {
		cfg.Containers = func() []netip.Addr { return nil }
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	cfg.Address = cfg.Address.Unmap().WithZone("")
	switch {
	case cfg.Cluster == "" || cfg.Node == "":
		return nil, errors.New("firewall: no cluster or node to name the chain after")
	case !cfg.Address.IsValid() || cfg.Address.IsUnspecified():
		return nil, fmt.Errorf("firewall: address %q: give the one that containers are published on", cfg.Address)
	case cfg.Ports.First == 0 || cfg.Ports.First > cfg.Ports.Last:
		return nil, fmt.Errorf("firewall: ports %s: the first is above the last, or 0", cfg.Ports)
	case cfg.Logger == nil:
		return nil, errors.New("firewall: no logger")
	}
	return &Firewall{cfg: cfg, chain: "ORCHD-" + mark(cfg.Cluster) + "-" + mark(cfg.Node), log: cfg.Logger}, nil
}

// Chain is the name of the chain that is ours.
func (f *Firewall) Chain() string { return f.chain }

// State says whether the rules are in force. It is for anybody, at any time.
func (f *Firewall) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func mark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])[:markLen]
}
