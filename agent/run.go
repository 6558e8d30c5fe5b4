package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/agent/control"
	"orch/agent/membership"
	"orch/agent/worker"
	"orch/fsm"
	"orch/proxy"
)

// Limits of a node's start and stop.
const (
	// probeInterval is how often the leader asks each container's health API.
	probeInterval = time.Second
	// handOver bounds the transfer of leadership at the end of a leader.
	handOver = 2 * time.Second
	// drainTimeout is what requests in flight get at the end of a node, of the 10 s
	// that a service manager waits.
	drainTimeout = 6 * time.Second
	// serveAnyway is how long a node that has a last view waits for its cluster
	// before it serves from that: serving depends on no quorum.
	serveAnyway = 3 * time.Second
)

// Run is one life of a node: it returns when everything it started has ended, nil
// after a SIGTERM or when the node has left its cluster.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	n := &Node{cfg: cfg, log: cfg.Logger.With("node", cfg.NodeID), store: fsm.NewStore(), clock: newClock(time.Now()), joined: make(chan struct{})}
	n.refusals = newRefusals(n.log, time.Now)
	if n.folder, err = openFolder(cfg.DataDir); err != nil {
		return err
	}
	defer n.folder.Close()
	if err := n.load(); err != nil {
		return err
	}
	unmeasure, err := n.trust.measure(cfg.Registry)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	defer unmeasure()
	eng, err := newEngine(cfg)
	if err != nil {
		return err
	}
	defer eng.Close()
	ctx, n.leaving = context.WithCancelCause(ctx)
	defer n.leaving(nil)
	n.life = ctx
	if err := n.open(); err != nil {
		return err
	}
	if err := n.finishRecovery(); err != nil {
		return errors.Join(err, n.raft.Close(context.Background()))
	}
	n.wire(eng)
	listeners, err := n.listen()
	if err != nil {
		return errors.Join(err, n.raft.Close(context.Background()))
	}
	n.log.Info("orchd runs", "version", cfg.Version, "api", cfg.APIAddr, "proxy", cfg.ProxyAddr, "engine", eng.Name(), "cluster", n.clusterID())
	err = n.serve(ctx, listeners)
	if left := context.Cause(ctx); errors.Is(left, errLeft) {
		n.unguard()
		aside, aerr := n.folder.setAside(n.member.ClusterID)
		n.log.Info("left the cluster; its data were set aside, and containers that still run are removed by 'orchd purge --data-dir' with that folder", "cluster", n.member.ClusterID, "folder", aside)
		err = errors.Join(err, aerr)
	}
	return err
}

// load reads what outlived the last run; a folder of another node is refused before
// anything in it is touched.
func (n *Node) load() error {
	id, ok, err := n.folder.identity(n.cfg.NodeID)
	if err != nil {
		return err
	}
	n.trust = newTrust(n.cfg.NodeID, n.folder, n.view, n.log)
	if err := n.folder.checkSecrets(); err != nil {
		return err
	}
	if ok {
		if err := n.trust.load(id); err != nil {
			return err
		}
		n.member = id
		close(n.joined)
	}
	if n.last, err = n.folder.loadView(); err != nil {
		// Only a copy: the log has it all. Without a quorum this node can not serve
		// before it has one again.
		n.log.Warn("last view not readable; it is made anew", "reason", err)
		n.last = nil
	}
	return nil
}

// open opens the log.
func (n *Node) open() error {
	timings, err := consensus.Profile(n.cfg.Profile)
	if err != nil {
		return err
	}
	m := &machine{Store: n.store, clock: n.clock}
	layer, err := n.listenRaft()
	if err != nil {
		return err
	}
	n.stable = timings.Stable
	n.raft, err = consensus.Open(consensus.Config{
		ID: n.cfg.NodeID, Addr: n.cfg.RaftAddr, Layer: layer, Dir: n.cfg.DataDir, Timings: timings,
		Logger: n.cfg.Logger, Registry: n.cfg.Registry,
	}, m)
	if err != nil {
		layer.Close() // Open has said what matters
		return err
	}
	m.replayed.Store(n.raft.Status().Term)
	return nil
}

// wire makes the rooms and gives each what it needs of the others.
func (n *Node) wire(eng containerEngine) {
	n.images = eng
	n.peers = newPeers(n)
	n.suspects = newSuspects(n)
	n.backups = newBackups(n)
	requests := n.cfg.Requests.config()
	requests.Node, requests.Logger, requests.Registry = n.cfg.NodeID, n.log, n.cfg.Registry
	n.proxy = proxy.New(requests,
		newTurns(n.cfg.NodeID, time.Now(), n.Propose, n.view), n.suspects)
	n.control = control.New(control.Config{
		Node: n.cfg.NodeID, Stable: n.stable, Interval: probeInterval, Now: n.clock.now, Jitter: rand.Float64, Logger: n.cfg.Logger, Registry: n.cfg.Registry,
		DialAddr: func(v *fsm.State, row fsm.Container) string {
			addr, _ := dialAddr(v, row, n.cfg.NodeID)
			return addr
		},
	}, n.store, leaderOnly{n}, lateGossip{n}, n.peers, voters{n.raft})
	n.worker = worker.New(worker.Config{
		Node: n.cfg.NodeID, HostIP: n.cfg.Addr, Proxy: n.cfg.ownProxy(), ClusterID: n.clusterID, VolumeDir: n.cfg.VolumeDir,
		CaughtUp: n.caughtUp, Reveal: n.reveal, Classify: classify, Logger: n.cfg.Logger, Registry: n.cfg.Registry,
	}, orders{n}, n, workerEngine{eng})
}

// leaderOnly proposes for control, which must not act through another leader.
type leaderOnly struct{ *Node }

func (l leaderOnly) Propose(ctx context.Context, c fsm.Command) (any, error) {
	return l.ProposeHere(ctx, c)
}

// listeners of a node; the proxy's is opened when there is something to serve.
type listeners struct{ api, socket, metrics net.Listener }

func (n *Node) listen() (l listeners, err error) {
	closeAll := func() {
		for _, x := range []net.Listener{l.api, l.socket, l.metrics} {
			if x != nil {
				x.Close()
			}
		}
	}
	open := func(flag, addr string, into *net.Listener) {
		if err != nil {
			return
		}
		if *into, err = net.Listen("tcp", addr); err != nil {
			err = fmt.Errorf("--%s: %w; stop what uses it, or choose another address", flag, err)
		}
	}
	open("api-addr", n.cfg.APIAddr, &l.api)
	open("metrics-addr", n.cfg.MetricsAddr, &l.metrics)
	if err == nil {
		err = n.cfg.Requests.probe(n.cfg.ProxyAddr)
	}
	if err == nil {
		l.socket, err = listenSocket(n.cfg.Socket, n.cfg.SocketGroup)
	}
	if err != nil {
		closeAll()
		return l, err
	}
	l.api = n.secureAPI(l.api)
	return l, nil
}

// serve runs every room until ctx ends or one fails, then stops them in the order in
// which they need each other: leadership and requests first, the log last.
func (n *Node) serve(ctx context.Context, l listeners) error {
	rooms, stopRooms := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRooms()
	base, baseCtx := errgroup.WithContext(rooms) // what the others stand on
	base.Go(func() error {
		return api.NewServer(n, n.log, api.WithIdentify(n.identify), api.WithConnContext(peerName)).Run(baseCtx, l.api, l.socket)
	})
	base.Go(func() error { return n.serveMetrics(baseCtx, l.metrics) })
	base.Go(func() error { return n.folder.keepView(baseCtx, orders{n}, n.log) })
	base.Go(func() error { return n.fatal(baseCtx) })
	base.Go(func() error { return n.gossips(baseCtx) })
	base.Go(func() error { return n.suspects.run(baseCtx) })
	base.Go(func() error { return n.pumpTable(baseCtx) })
	base.Go(func() error { return n.standsAside(baseCtx) })
	base.Go(func() error { return n.introduces(baseCtx) })
	base.Go(func() error { return n.relays(baseCtx) })
	base.Go(func() error { return n.guards(baseCtx) })
	base.Go(func() error { return n.trust.follow(baseCtx, n.Subscribe, n.setGossipKeys) })
	base.Go(func() error { return n.rotates(baseCtx) })
	if n.backups != nil {
		base.Go(func() error { return n.backups.Run(baseCtx) })
	}

	work, workCtx := errgroup.WithContext(ctx)
	context.AfterFunc(baseCtx, func() { n.leaving(context.Cause(baseCtx)) })
	work.Go(func() error { return n.control.Run(workCtx, n.raft.Leadership()) })
	work.Go(func() error { return n.worker.Run(workCtx) })
	work.Go(func() error { return n.serveRequests(workCtx) })
	work.Go(func() error { return n.departs(workCtx) })
	work.Go(func() error { // a leader that ends hands over before anything of it stops
		<-workCtx.Done()
		n.stopping.Store(true)
		return n.handOver()
	})
	err := work.Wait()
	stopRooms()
	err = errors.Join(err, base.Wait())
	n.peers.close()
	end, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	return errors.Join(err, n.raft.Close(end))
}

func (n *Node) handOver() error {
	if id, _ := n.raft.Leader(); id != n.cfg.NodeID || len(n.store.View().Nodes) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	if err := n.raft.Transfer(ctx, ""); err != nil {
		n.log.Warn("leadership not handed over; the others will elect", "reason", err)
		return nil
	}
	n.log.Info("leadership handed over")
	return nil
}

// fatal ends the node when its store can apply nothing more: going on would be to
// diverge.
func (n *Node) fatal(ctx context.Context) error {
	poke, end := n.store.Subscribe()
	defer end()
	for {
		if err := n.store.Fatal(); err != nil {
			return err
		}
		if have, want := n.store.View().ClusterID, n.clusterID(); have != "" && want != "" && have != want {
			return fmt.Errorf("%w: %s is of cluster %s, the log in it of cluster %s: move the folder away and join anew", ErrFolder, n.cfg.DataDir, want, have)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		}
	}
}

// serveRequests opens the public port once this node has reconciled: requests come to
// a table that is true. A node that finds no cluster, or no engine, serves from its last
// view, and is not ready before it has.
func (n *Node) serveRequests(ctx context.Context) error {
	var anyway <-chan time.Time
	if n.last != nil {
		anyway = time.After(serveAnyway)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-n.worker.Reconciled():
	case <-anyway:
		n.log.Warn("serving from the last view, without being ready", "index", n.last.Changed, "reason", n.behind())
	}
	public, err := n.cfg.Requests.listen(ctx, n.cfg.ProxyAddr)
	if err != nil {
		return err
	}
	n.serving.Store(true)
	n.log.Info("serving requests", "addr", n.cfg.ProxyAddr, "tls", n.cfg.Requests.TLSAddr)
	return n.proxy.Run(ctx, public...)
}

// gossips runs membership once this node is in a cluster.
func (n *Node) gossips(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.joined:
	}
	timings, err := membership.Profile(n.cfg.Profile)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(n.cfg.GossipAddr)
	if err != nil {
		return fmt.Errorf("--gossip-addr %q: %w", n.cfg.GossipAddr, err)
	}
	list, err := membership.New(membership.Config{
		ID: n.cfg.NodeID, BindAddr: at.Addr().String(), BindPort: int(at.Port()), ClusterID: n.clusterID(),
		Keys: n.trust.gossipKeys(), Timings: timings, Allow: n.welcome, Logger: n.cfg.Logger, Registry: n.cfg.Registry,
		Meta: n.meta(), Gone: n.goneFrom,
	})
	if err != nil {
		return err
	}
	n.gossip.Store(list)
	if err := list.SetKeys(n.trust.gossipKeys()); err != nil { // those of the table may have come between
		return err
	}
	return list.Run(ctx, func() []string {
		var addrs []string
		for _, o := range n.known() {
			addrs = append(addrs, o.GossipAddr)
		}
		return addrs
	})
}

// setGossipKeys has gossip use other keys. Gossip that has not begun takes them then.
func (n *Node) setGossipKeys(keys [][]byte) error {
	if list := n.gossip.Load(); list != nil {
		return list.SetKeys(keys)
	}
	return nil
}

// meta is what this node tells the others of itself.
func (n *Node) meta() membership.Meta {
	return membership.Meta{API: n.cfg.APIAddr, Raft: n.cfg.RaftAddr, Proxy: n.cfg.ProxyAddr, Version: n.cfg.Version, Epoch: n.epoch()}
}

// welcome says why a node has no place in this cluster's gossip: it is not in the
// table. A node that knows no table yet lets in everybody.
func (n *Node) welcome(id, _ string) error {
	v := n.store.View()
	if _, ok := v.Node(id); !ok && len(v.Nodes) > 0 {
		return fmt.Errorf("%w: %q", fsm.ErrNoSuchNode, id)
	}
	return nil
}

// goneFrom says whether nobody is expected to gossip at an address any more.
func (n *Node) goneFrom(addr string) bool {
	there := slices.ContainsFunc(n.known(), func(o fsm.Node) bool { return o.GossipAddr == addr && o.Status != fsm.NodeLeft })
	return !there
}

// known are the nodes of the table, or until there is one those of the admission.
func (n *Node) known() []fsm.Node {
	if v := n.view(); len(v.Nodes) > 0 {
		return v.Nodes
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member.Peers
}

func (n *Node) serveMetrics(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.cfg.Registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /", api.Dashboard(n))
	mux.Handle("GET /-/", api.Signs(n))
	s := &http.Server{Handler: api.OnlyHere(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
