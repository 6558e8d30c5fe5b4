package consensus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is Raft's network transport without its fast path for heartbeats.
// On that path a heartbeat changes term and state beside the main loop, and a
// leader that was paused or cut off under load can end with another log than
// its peers (hashicorp/raft#695). Without it a heartbeat waits its turn behind
// writes to disk, so the time-outs of a profile exceed the slowest write.
type transport struct{ *raft.NetworkTransport }

// SetHeartbeatHandler does nothing, on purpose.
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close does nothing: Raft calls it when it shuts down, and the transport
// outlives a Raft that is started anew. Node.Close closes the real one.
func (transport) Close() error { return nil }

// The methods below send to a member by its name too. An address alone may be another
// node's by now, whose answers would count for the member that was there.

// AppendEntries implements raft.Transport.
func (t transport) AppendEntries(id raft.ServerID, at raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	if slices.ContainsFunc(q.Entries, func(l *raft.Log) bool { return l.Type == replacedEntry }) {
		return errReplaced
	}
	return t.NetworkTransport.AppendEntries(id, named(id, at), q, r)
}

// errReplaced: a leader read its log in the moment in which it ceased to be one.
var errReplaced = errors.New("an entry that a snapshot has replaced is not sent")

// RequestVote implements raft.Transport.
func (t transport) RequestVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, named(id, at), q, r)
}

// RequestPreVote implements raft.WithPreVote.
func (t transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, named(id, at), q, r)
}

// InstallSnapshot implements raft.Transport.
func (t transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, q *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, named(id, at), q, r, data)
}

// TimeoutNow implements raft.Transport.
func (t transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, named(id, at), q, r)
}

// nameMark ends the name in front of an address; no name and no address has it.
const nameMark = "@"

func named(id raft.ServerID, at raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + nameMark + at
}

// Layer makes and takes the connections between nodes, and knows who is at the other
// end: Dial fails where another node than id answers.
type Layer interface {
	net.Listener
	Dial(id, addr string, timeout time.Duration) (net.Conn, error)
}

// streams is a Layer as Raft wants it.
type streams struct{ Layer }

// Dial implements raft.StreamLayer.
func (s streams) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, at, ok := strings.Cut(string(addr), nameMark)
	if !ok {
		return nil, fmt.Errorf("raft connection to %s: nobody is named", addr)
	}
	return s.Layer.Dial(id, at, timeout)
}

// maxInbound bounds connections from peers: each has one for heartbeats and one
// for entries, and leaves some behind when it reconnects.
const maxInbound = 256

// poolSize is how many idle connections are kept to each peer.
const poolSize = 3

var errGateClosed = errors.New("this node is fenced or closing: its Raft connections are shut")

// gate is a stream layer that can be shut: every connection is cut, and none is
// made or taken until all who hold it have released it.
type gate struct {
	raft.StreamLayer

	mu      sync.Mutex
	held    int
	conns   map[*gatedConn]struct{}
	inbound int
}

func newGate(l raft.StreamLayer) *gate {
	return &gate{StreamLayer: l, conns: map[*gatedConn]struct{}{}}
}

// Accept waits for the next connection that may pass.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.StreamLayer.Accept()
		if err != nil {
			return nil, err
		}
		if gc, ok := g.admit(c, true); ok {
			return gc, nil
		}
		c.Close()
	}
}

// Dial makes a connection, unless the gate is shut.
func (g *gate) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if g.shut() {
		return nil, errGateClosed
	}
	c, err := g.StreamLayer.Dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	gc, ok := g.admit(c, false)
	if !ok {
		c.Close()
		return nil, errGateClosed
	}
	return gc, nil
}

func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held > 0
}

func (g *gate) admit(c net.Conn, inbound bool) (*gatedConn, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held > 0 || (inbound && g.inbound >= maxInbound) {
		return nil, false
	}
	gc := &gatedConn{Conn: c, gate: g, inbound: inbound}
	g.conns[gc] = struct{}{}
	if inbound {
		g.inbound++
	}
	return gc, true
}

func (g *gate) forget(c *gatedConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.conns[c]; !ok {
		return
	}
	delete(g.conns, c)
	if c.inbound {
		g.inbound--
	}
}

// hold shuts the gate and cuts what is open.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held++
	for c := range g.conns {
		cut(c.Conn)
	}
}

// cut closes a connection at once. TLS would first say good-bye, and wait for a
// peer that does not read.
func cut(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	c.Close()
}

// release opens the gate when the last one who held it lets go.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
}

// Close ends the listener and every connection.
func (g *gate) Close() error {
	g.hold()
	return g.StreamLayer.Close()
}

type gatedConn struct {
	net.Conn
	gate    *gate
	inbound bool
}

func (c *gatedConn) Close() error {
	c.gate.forget(c)
	return c.Conn.Close()
}

// plainTCP carries Raft in the clear. Raft decodes what anyone sends, so it is for
// loopback alone.
type plainTCP struct{ net.Listener }

func listenPlain(addr string) (Layer, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("raft address %q: %w; write it as IP:PORT", addr, err)
	}
	if a.IP == nil || a.IP.IsUnspecified() {
		return nil, fmt.Errorf("raft address %q: peers cannot dial it; name one IP address of this machine", addr)
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("raft address %q: peers are not authenticated without a Layer that does; use a loopback address", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for raft: %w; stop what uses the address, or choose another", err)
	}
	return plainTCP{l}, nil
}

// Dial implements Layer. It can not tell who answers.
func (plainTCP) Dial(_, addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, timeout)
}
