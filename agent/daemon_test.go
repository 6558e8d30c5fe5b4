package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent/api"
	"orch/scripts/local"
)

// daemon is a whole node in this process, on a loopback address of its own.
type daemon struct {
	*api.Client // of its socket
	t           *testing.T
	cfg         Config
	stop        func() // and wait; it may be called twice
}

// loopbacks counts the addresses given away: every 127.x.y.z is this machine.
var loopbacks atomic.Uint32

func loopback() string {
	n := loopbacks.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 20+os.Getpid()%200, 1+n/200, 1+n%200)
}

// begin starts a node with an empty folder.
func begin(t *testing.T, id, ip string) *daemon {
	t.Helper()
	dir := local.Folder(t)
	c := Default()
	c.NodeID, c.Addr, c.DataDir, c.Socket = id, ip, filepath.Join(dir, "data"), filepath.Join(dir, "s")
	c.ProxyAddr, c.MetricsAddr = ip+":8480", ip+":7483"
	c.Engine, c.ProcessImages, c.Firewall, c.Version = "process", map[string]string{"none": "/bin/true"}, firewallOff, "v1"
	d := &daemon{t: t, cfg: c.Complete()}
	d.start()
	return d
}

// life is the configuration of one run.
func (d *daemon) life() Config {
	cfg := d.cfg
	cfg.Registry, cfg.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(d.t.Output(), nil))
	}
	return cfg
}

func (d *daemon) start() {
	d.t.Helper()
	cfg := d.life()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	d.Client = api.NewClient(cfg.Socket, nil)
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			d.t.Errorf("%s: %v", cfg.NodeID, err)
		}
		d.Client.Close()
	}
	d.t.Cleanup(func() { d.stop() })
	d.until("it runs", func(ctx context.Context) error { return d.Healthy(ctx) })
}

// patience is how long a condition may take on a machine that others use too.
const patience = 30 * time.Second

// until waits until is gives nil.
func (d *daemon) until(what string, is func(ctx context.Context) error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := is(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			d.t.Fatalf("%s: not within %s: %s: %v", d.cfg.NodeID, patience, what, err)
		case <-tick.C:
		}
	}
}

// ready asks as a load balancer would.
func (d *daemon) ready(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.cfg.MetricsAddr+"/-/ready", nil)
	if err != nil {
		return err
	}
	q.Close = true
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ready: %s", resp.Status)
	}
	return nil
}

// together makes a cluster of voters; the first leads.
func together(t *testing.T, ids ...string) []*daemon {
	t.Helper()
	first := begin(t, ids[0], loopback())
	a, err := first.Init(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := []*daemon{first}
	for _, id := range ids[1:] {
		d := begin(t, id, loopback())
		if _, err := d.Join(t.Context(), first.cfg.APIAddr, a.Token.Token); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// node is another node as this one shows it.
func (d *daemon) node(ctx context.Context, id string) (api.NodeInfo, error) {
	nodes, err := d.Nodes(ctx)
	for _, n := range nodes {
		if n.ID == id {
			return n, err
		}
	}
	return api.NodeInfo{}, err
}

// shows waits until this node shows another one so.
func (d *daemon) shows(id string, is func(api.NodeInfo) bool) {
	d.t.Helper()
	d.until("how it shows "+id, func(ctx context.Context) error {
		n, err := d.node(ctx, id)
		if err == nil && !is(n) {
			err = fmt.Errorf("%+v", n)
		}
		return err
	})
}
