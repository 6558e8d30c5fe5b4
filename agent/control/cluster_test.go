package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"orch/fsm"
)

// cluster is a real table behind an in-process log, the nodes around it and what
// gossip and Raft would say of them. Use it inside a bubble.
type cluster struct {
	t     *testing.T
	store *fsm.Store
	net   *network

	mu       sync.Mutex
	index    uint64
	commits  func(fsm.Command) error // nil: every command is committed
	log      []fsm.Command           // accepted ones, TakeTurns and Observe aside
	barriers int
	gossip   map[string]string
	silent   map[string]bool           // nodes whose API does not answer
	inFlight map[string]map[rowKey]int // by node
	behind   map[string]uint64         // how far a node's state and proxy lag
	fenced   map[string]bool           // nodes whose disk takes no writes
	unheard  map[string]bool           // nodes that the leader's heartbeats do not reach
	deaf     map[string]bool           // nodes that say that they hear no leader
	refuses  map[string]bool           // changes of members that fail
	voters   map[string]Voter
	changes  []string // of Raft's members
	stopped  map[rowKey]time.Time
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	c := &cluster{
		t: t, store: fsm.NewStore(), net: newNetwork(), gossip: map[string]string{}, silent: map[string]bool{},
		inFlight: map[string]map[rowKey]int{}, behind: map[string]uint64{}, voters: map[string]Voter{}, fenced: map[string]bool{}, unheard: map[string]bool{}, deaf: map[string]bool{}, refuses: map[string]bool{}, stopped: map[rowKey]time.Time{},
	}
	c.must(fsm.InitCluster{ClusterID: "test"})
	for _, id := range nodes {
		c.join(id)
		c.voters[id] = Voter{id, "raft-" + id, true}
	}
	c.log = nil
	return c
}

func (c *cluster) join(id string) {
	c.must(fsm.PutNode{Node: fsm.Node{ID: id, Addr: id, APIAddr: "api-" + id, RaftAddr: "raft-" + id}})
	c.set(func() { c.gossip[id] = "alive" })
}

func (c *cluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func stamp() int64 { return time.Now().UnixMilli() }

func (c *cluster) must(cmd fsm.Command) any {
	c.t.Helper()
	r, err := c.Propose(context.Background(), cmd)
	if err != nil {
		c.t.Fatalf("%T: %v", cmd, err)
	}
	return r
}

// Propose implements Proposer: it encodes, applies and checks every invariant.
func (c *cluster) Propose(ctx context.Context, cmd fsm.Command) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.commits != nil {
		if err := c.commits(cmd); err != nil {
			return nil, err
		}
	}
	data, err := fsm.Encode(stamp(), cmd)
	if err != nil {
		return nil, err
	}
	c.index++
	result := c.store.Apply(c.index, 1, data)
	if err := fsm.Check(c.store.View()); err != nil {
		c.t.Errorf("after %+v: %v", cmd, err)
	}
	if err, ok := result.(error); ok {
		return nil, err
	}
	switch cmd.(type) {
	case fsm.TakeTurns, fsm.Observe, fsm.Note:
	default:
		c.log = append(c.log, cmd)
	}
	return result, nil
}

// Barrier implements Proposer.
func (c *cluster) Barrier(ctx context.Context) error {
	c.set(func() { c.barriers++ })
	return ctx.Err()
}

func (c *cluster) View() *fsm.State                     { return c.store.View() }
func (c *cluster) Subscribe() (<-chan struct{}, func()) { return c.store.Subscribe() }
func (c *cluster) Kick() <-chan struct{}                { return nil }

// Members implements Members.
func (c *cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Member
	for id, s := range c.gossip {
		out = append(out, Member{ID: id, Status: s, Since: time.Now().Add(-time.Minute)})
	}
	return out
}

var errSilentNode = errors.New("connection refused")

// Report implements Peers.
func (c *cluster) Report(_ context.Context, id string) (Report, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent[id] {
		return Report{}, errSilentNode
	}
	at := c.store.View().Applied - c.behind[id]
	r := Report{Applied: at, Serving: at, Fenced: c.fenced[id], NoLeader: c.deaf[id]}
	for k, n := range c.inFlight[id] {
		r.Loads = append(r.Loads, Load{k.service, k.number, k.generation, n})
	}
	return r, nil
}

// ProbeFrom implements Peers: the owner's way to its container is never cut.
func (c *cluster) ProbeFrom(ctx context.Context, id string, row fsm.Container) error {
	var silent bool
	c.set(func() { silent = c.silent[id] })
	if silent {
		return errSilentNode
	}
	p := newProber(c.net.dialLocal)
	defer p.close()
	if err := p.probe(ctx, address(row), "/health", time.Second); err != nil {
		return fmt.Errorf("%w: %w", ErrUnhealthy, err)
	}
	return nil
}

// The methods below implement Voters.

func (c *cluster) Voters() ([]Voter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Voter
	for _, v := range c.voters {
		out = append(out, v)
	}
	return out, nil
}

// Silent implements Voters.
func (c *cluster) Silent() map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]time.Time{}
	for id, is := range c.unheard {
		if is {
			out[id] = time.Now()
		}
	}
	return out
}

func (c *cluster) change(what, id string, f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses[what+" "+id] {
		return errors.New("refused")
	}
	c.changes = append(c.changes, what+" "+id)
	f()
	return nil
}

func (c *cluster) AddNonvoter(_ context.Context, id, addr string) error {
	return c.change("nonvoter", id, func() { c.voters[id] = Voter{id, addr, false} })
}

func (c *cluster) AddVoter(_ context.Context, id, addr string) error {
	return c.change("voter", id, func() { c.voters[id] = Voter{id, addr, true} })
}

func (c *cluster) Remove(_ context.Context, id string) error {
	return c.change("remove", id, func() { delete(c.voters, id) })
}

func (c *cluster) Transfer(_ context.Context, to string) error {
	return c.change("transfer", to, func() {})
}

func address(row fsm.Container) string { return fmt.Sprintf("%s:%d", row.Node, row.Port) }

// control of one node of the cluster.
func (c *cluster) control(node string) *Control {
	return New(Config{
		Node: node, DialAddr: func(_ *fsm.State, row fsm.Container) string { return address(row) }, Dial: c.net.dial,
		Now: stamp, Jitter: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	}, c, c, c, c, c)
}

// lead runs the control of node as leader; the function it returns ends its term
// and waits for it.
func (c *cluster) lead(node string) (ctl *Control, stop func()) {
	ctl = c.control(node)
	return ctl, run(c.t, ctl, true)
}

func run(t *testing.T, ctl *Control, words ...bool) (stop func()) {
	leadership := make(chan bool, len(words))
	for _, w := range words {
		leadership <- w
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ctl.Run(ctx, leadership) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// within waits until ok holds, for at most d of the bubble's time, and returns how
// long that took.
func (c *cluster) within(d time.Duration, what string, ok func(v *fsm.State) bool) time.Duration {
	c.t.Helper()
	poke, end := c.store.Subscribe()
	defer end()
	began := time.Now()
	limit := time.After(d)
	for !ok(c.store.View()) {
		select {
		case <-poke:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			c.t.Fatalf("not within %s: %s\n%s", d, what, c.dump())
		}
	}
	return time.Since(began)
}

// always holds ok for d.
func (c *cluster) always(d time.Duration, what string, ok func(v *fsm.State) bool) {
	c.t.Helper()
	poke, end := c.store.Subscribe()
	defer end()
	limit := time.After(d)
	for {
		if v := c.store.View(); !ok(v) {
			c.t.Fatalf("not always for %s: %s\n%s", d, what, c.dump())
		}
		select {
		case <-poke:
		case <-limit:
			return
		}
	}
}

func (c *cluster) dump() string {
	v := c.store.View()
	s := ""
	for _, e := range v.Events[max(0, len(v.Events)-25):] {
		s += fmt.Sprintf("%d %s %s/%d %s: %s\n", e.At%1e7, e.Kind, e.Service, e.Number, e.Node, e.Reason)
	}
	for _, r := range v.Containers {
		s += fmt.Sprintf("%+v\n", r)
	}
	return s
}

func (c *cluster) commands() []fsm.Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]fsm.Command(nil), c.log...)
}

func (c *cluster) memberChanges() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.changes...)
}

func healthyRows(n int) func(*fsm.State) bool {
	return func(v *fsm.State) bool { return len(v.Rotation("acts")) == n }
}

// cut makes the leader's way to a row end: by a refusal, or in silence.
func (c *cluster) cut(r fsm.Container, silently bool) {
	c.net.set(func() {
		c.net.cut[address(r)], c.net.mute[address(r)] = !silently, silently
	})
	c.net.container(address(r)).server.SetKeepAlivesEnabled(false) // ends the connection that is there
}

func (c *cluster) generations() map[int]uint64 {
	out := map[int]uint64{}
	for _, r := range c.store.View().Rows("acts") {
		out[r.Number] = r.Generation
	}
	return out
}

func (c *cluster) sameGenerations(want map[int]uint64) func(*fsm.State) bool {
	return func(*fsm.State) bool { return maps.Equal(c.generations(), want) }
}

// spec of the service under test, with n containers at least.
func spec(n int) fsm.Spec {
	s := fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()
	s.Health.Path = "/health"
	s.Scale.Min = n
	return s
}
