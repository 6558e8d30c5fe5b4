package control

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"orch/fsm"
)

// network holds the containers of a bubble: real HTTP servers behind in-memory
// connections, whose waits the bubble's clock sees.
type network struct {
	mu     sync.Mutex
	at     map[string]*container
	cut    map[string]bool // addresses that the leader does not reach
	mute   map[string]bool // addresses that the leader reaches, but hears nothing from
	probes map[string]int  // requests to health APIs, by address
}

func newNetwork() *network {
	return &network{at: map[string]*container{}, cut: map[string]bool{}, mute: map[string]bool{}, probes: map[string]int{}}
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// dial is the leader's way to a container.
func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	cut, mute := n.cut[addr], n.mute[addr]
	n.mu.Unlock()
	if mute {
		ours, _ := net.Pipe()
		return ours, nil
	}
	if cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EHOSTUNREACH}
	}
	return n.dialLocal(ctx, network, addr)
}

// dialLocal is the owner's.
func (n *network) dialLocal(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	c := n.at[addr]
	n.mu.Unlock()
	if c == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return c.connect(ctx)
}

// container is one HTTP server.
type container struct {
	n      *network
	addr   string
	conns  chan net.Conn
	server *http.Server
	closed chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	broken bool // answers 500
	paused bool // does not answer
}

// start puts a container at addr, in place of the one that is there.
func (n *network) start(addr string) *container {
	n.stop(addr)
	c := &container{n: n, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{})}
	c.server = &http.Server{Handler: c}
	n.set(func() { n.at[addr] = c })
	go func() {
		defer close(c.done)
		_ = c.server.Serve(c)
	}()
	return c
}

// stop ends a container as SIGKILL would.
func (n *network) stop(addr string) {
	n.mu.Lock()
	c := n.at[addr]
	delete(n.at, addr)
	n.mu.Unlock()
	if c != nil {
		_ = c.server.Close()
		<-c.done
	}
}

func (n *network) stopAll() {
	n.mu.Lock()
	var all []string
	for a := range n.at {
		all = append(all, a)
	}
	n.mu.Unlock()
	for _, a := range all {
		n.stop(a)
	}
}

func (n *network) container(addr string) *container {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[addr]
}

func (n *network) probed(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.probes[addr]
}

func (c *container) connect(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case c.conns <- theirs:
		return ours, nil
	case <-c.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr implement net.Listener.
func (c *container) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

func (c *container) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

func (c *container) Addr() net.Addr { return &net.TCPAddr{} }

func (c *container) behave(broken, paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken, c.paused = broken, paused
}

func (c *container) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.mu.Lock()
	c.n.probes[c.addr]++
	c.n.mu.Unlock()
	c.mu.Lock()
	broken, paused := c.broken, c.paused
	c.mu.Unlock()
	switch {
	case paused:
		select {
		case <-r.Context().Done():
		case <-c.closed:
		}
	case broken || r.URL.Path != "/health":
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// owner makes the containers of one node match its rows.
type owner struct {
	c    *cluster
	node string
	// fails says why a row cannot be started; "" starts it.
	fails func(row fsm.Container) (reason string, portTaken bool)
	// broken are the images whose containers answer 500.
	broken []string
	// takes is how long a start takes.
	takes time.Duration
}

// own runs owners until the function it returns is called.
func (c *cluster) own(owners ...*owner) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, o := range owners {
		wg.Go(func() { o.run(ctx) })
	}
	return func() {
		cancel()
		wg.Wait()
		c.net.stopAll()
	}
}

func (c *cluster) owners(nodes ...string) (stop func()) {
	var all []*owner
	for _, n := range nodes {
		all = append(all, &owner{c: c, node: n, takes: 50 * time.Millisecond})
	}
	return c.own(all...)
}

func (o *owner) run(ctx context.Context) {
	poke, end := o.c.store.Subscribe()
	defer end()
	runs := map[rowKey]string{} // what it has started, and where
	for {
		for _, row := range o.c.View().RowsOn(o.node) {
			o.tend(ctx, row, runs)
		}
		o.sweep(runs)
		select {
		case <-ctx.Done():
			return
		case <-poke:
		}
	}
}

func (o *owner) tend(ctx context.Context, row fsm.Container, runs map[rowKey]string) {
	see := func(p fsm.Phase, reason string, taken bool) {
		_, _ = o.c.Propose(ctx, fsm.Observe{Node: o.node, Service: row.Service, Number: row.Number, Generation: row.Generation, Phase: p, Reason: reason, PortTaken: taken})
	}
	k := keyOf(row)
	switch {
	case row.Desired == fsm.Stopped:
		o.c.net.stop(address(row))
		delete(runs, k)
		see(fsm.Stopped, "", false)
		o.c.set(func() { o.c.stopped[k] = time.Now() })
	case row.Observed == fsm.Pending && runs[k] == "":
		o.c.net.stop(address(row))
		select {
		case <-ctx.Done():
			return
		case <-time.After(o.takes):
		}
		if o.fails != nil {
			if why, taken := o.fails(row); why != "" {
				see(fsm.Stopped, why, taken)
				return
			}
		}
		o.c.net.start(address(row)).behave(slices.Contains(o.broken, row.Image), false)
		runs[k] = address(row)
		see(fsm.Running, "", false)
	}
}

// sweep stops what it has started and no row asks for any more.
func (o *owner) sweep(runs map[rowKey]string) {
	v := o.c.View()
	for k, addr := range runs {
		row, ok := v.Container(k.service, k.number)
		if ok && row.Node == o.node && row.Generation == k.generation {
			continue
		}
		if !ok || row.Node != o.node {
			o.c.net.stop(addr)
		}
		delete(runs, k)
	}
}
