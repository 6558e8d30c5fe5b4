package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails where goroutines are left. A probe of memberlist outlives its Shutdown by up
// to the probe interval times its health score, 2.4 s: longer than goleak waits by itself.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		for tries := 0; err != nil && tries < 10; tries++ {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

const patience = 20 * time.Second

// node is a list that runs.
type node struct {
	*List
	cancel context.CancelFunc
	done   chan error
}

// cluster remembers the addresses, as the table would.
type cluster struct {
	t     *testing.T
	mu    sync.Mutex
	addrs []string
}

func (c *cluster) seeds() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.addrs...)
}

func (c *cluster) config(id, ip string) Config {
	timings, err := Profile("lan")
	if err != nil {
		c.t.Fatal(err)
	}
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	w := &quiet{w: c.t.Output()}
	c.t.Cleanup(w.stop)
	return Config{
		ID: id, BindAddr: ip, ClusterID: "c1", Timings: timings, Meta: Meta{API: ip + ":7480", Version: "v1"},
		Logger: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})),
	}
}

// quiet drops what is written after the test.
type quiet struct {
	mu sync.Mutex
	w  io.Writer
}

func (q *quiet) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.w.Write(p)
}

func (q *quiet) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.w = io.Discard
}

func (c *cluster) start(cfg Config) *node {
	c.t.Helper()
	l, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{List: l, cancel: cancel, done: make(chan error, 1)}
	go func() {
		n.done <- l.Run(ctx, c.seeds)
		close(n.done)
	}()
	c.t.Cleanup(func() { cancel(); <-n.done })
	select {
	case <-l.Ready():
	case err := <-n.done:
		c.t.Fatalf("%s: %v", cfg.ID, err)
	}
	c.mu.Lock()
	c.addrs = append(c.addrs, l.Addr())
	c.mu.Unlock()
	return n
}

// kill ends a node without a good-bye.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.cancel()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
}

func (n *node) sees(id string) (m Member) {
	for _, m := range n.Members() {
		if m.ID == id {
			return m
		}
	}
	return m
}

func three(t *testing.T, edit func(*Config)) (*cluster, []*node) {
	c := &cluster{t: t}
	var all []*node
	for i, id := range []string{"a", "b", "c"} {
		cfg := c.config(id, "127.0.0."+strconv.Itoa(i+1))
		if edit != nil {
			edit(&cfg)
		}
		all = append(all, c.start(cfg))
	}
	for _, n := range all {
		for _, id := range []string{"a", "b", "c"} {
			until(t, n.cfg.ID+" sees "+id, func() bool { return n.sees(id).Status == Alive })
		}
	}
	return c, all
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

func port(t *testing.T, addr string) int {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDeathAndReturn(t *testing.T) {
	c, n := three(t, nil)
	if m := n[0].sees("c").Meta; m != n[2].cfg.Meta {
		t.Fatalf("metadata %+v", m)
	}
	for range len(n[0].Kick()) {
		<-n[0].Kick()
	}
	start := time.Now()
	n[2].kill(t)
	seen := map[string]bool{}
	for _, other := range n[:2] {
		until(t, "c is dead", func() bool { s := other.sees("c").Status; seen[s] = true; return s == Dead })
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("dead after %v, want under 5 s", d)
	} else {
		t.Logf("dead after %v", d)
	}
	if !seen[Suspect] {
		t.Error("never suspect on the way")
	}
	select {
	case <-n[0].Kick():
	default:
		t.Error("no kick")
	}
	cfg := n[2].cfg
	cfg.BindPort = port(t, n[2].Addr())
	cfg.Meta.Version = "v2"
	back := c.start(cfg)
	for _, other := range n[:2] {
		until(t, "c is back", func() bool { m := other.sees("c"); return m.Status == Alive && m.Meta.Version == "v2" })
	}
	until(t, "c sees the others", func() bool { return back.sees("a").Status == Alive && back.sees("b").Status == Alive })
}

func TestLeaveIsNotDeath(t *testing.T) {
	_, n := three(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n[1].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	n[1].kill(t)
	for _, other := range []*node{n[0], n[2]} {
		until(t, "b has left", func() bool { return other.sees("b").Status == Left })
	}
	if err := n[1].Leave(ctx); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("leave after the end: %v", err)
	}
}

func TestSetMeta(t *testing.T) {
	_, n := three(t, nil)
	m := Meta{API: "127.0.0.1:1", Raft: "127.0.0.1:2", Proxy: "127.0.0.1:3", Version: "next"}
	if err := n[0].SetMeta(m); err != nil {
		t.Fatal(err)
	}
	for _, other := range n[1:] {
		until(t, "new metadata is known", func() bool { return other.sees("a").Meta == m })
	}
	if err := n[0].SetMeta(Meta{Version: strings.Repeat("v", 500)}); !errors.Is(err, ErrMeta) {
		t.Fatalf("500 bytes: %v, want ErrMeta", err)
	}
	big := n[0].cfg
	big.Meta.Version = strings.Repeat("v", 513)
	if _, err := New(big); !errors.Is(err, ErrMeta) {
		t.Fatalf("New with 513 bytes: %v, want ErrMeta", err)
	}
}

func TestDuplicateIDIsRefused(t *testing.T) {
	c, n := three(t, nil)
	second, err := New(c.config("b", "127.0.0.9"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = second.Run(ctx, c.seeds)
	if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), n[1].Addr()) {
		t.Fatalf("got %v, want ErrDuplicate naming %s", err, n[1].Addr())
	}
	select {
	case got := <-n[0].Conflicts():
		if got.ID != "b" || got.Addr != n[1].Addr() {
			t.Errorf("conflict %+v", got)
		}
	case <-time.After(patience):
		t.Error("the others were not told")
	}
	for _, other := range n {
		if m := other.sees("b"); m.Status != Alive || m.Addr != n[1].Addr() {
			t.Errorf("%s sees b as %+v", other.cfg.ID, m)
		}
	}
}

// With two nodes only, the one that was there first must not give way too.
func TestDuplicateOfALoneNode(t *testing.T) {
	c := &cluster{t: t}
	first := c.start(c.config("a", "127.0.0.1"))
	until(t, "the first has looked around", func() bool { return len(first.Members()) == 1 && trouble(first) == "" })
	second, err := New(c.config("a", "127.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := second.Run(ctx, c.seeds); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("got %v, want ErrDuplicate", err)
	}
	third := c.start(c.config("b", "127.0.0.3"))
	until(t, "the first is there", func() bool { return third.sees("a").Addr == first.Addr() })
	select {
	case err := <-first.done:
		t.Fatalf("the first has ended: %v", err)
	default:
	}
}

// A node that comes back at another address is no duplicate of itself.
func TestMovedNodeIsLetIn(t *testing.T) {
	c, n := three(t, nil)
	n[2].kill(t)
	moved := c.start(c.config("c", "127.0.0.8"))
	for _, other := range n[:2] {
		until(t, "c is alive at its new address", func() bool {
			m := other.sees("c")
			return m.Status == Alive && m.Addr == moved.Addr()
		})
	}
}

func TestStrangersStayOut(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	var mu sync.Mutex
	var refused []string
	c, n := three(t, func(cfg *Config) {
		cfg.Keys = [][]byte{key}
		cfg.Allow = func(id, _ string) error {
			if id == "a" || id == "b" || id == "c" {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, id)
			return errors.New("not in the table")
		}
	})
	strangers := map[string]*node{}
	for id, edit := range map[string]func(*Config){
		"label":  func(cfg *Config) { cfg.ClusterID = "c2"; cfg.Keys = [][]byte{key} },
		"nokey":  func(cfg *Config) {},
		"badkey": func(cfg *Config) { cfg.Keys = [][]byte{bytes.Repeat([]byte{8}, 32)} },
		"table":  func(cfg *Config) { cfg.Keys = [][]byte{key} },
	} {
		cfg := c.config(id, "127.0.0.7")
		edit(&cfg)
		strangers[id] = c.start(cfg)
	}
	for id, s := range strangers {
		if id == "table" {
			continue
		}
		until(t, id+" is told that it cannot join", func() bool { return trouble(s) != "" })
		if got := len(s.Members()); got != 1 {
			t.Errorf("%s sees %d nodes", id, got)
		}
	}
	until(t, "the table is asked", func() bool { mu.Lock(); defer mu.Unlock(); return len(refused) > 0 })
	for _, own := range n {
		for _, m := range own.Members() {
			if strangers[m.ID] != nil {
				t.Errorf("%s let %s in", own.cfg.ID, m.ID)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	c := &cluster{t: t}
	for what, edit := range map[string]func(*Config){
		"no ID":              func(cfg *Config) { cfg.ID = "" },
		"no cluster":         func(cfg *Config) { cfg.ClusterID = "" },
		"any address":        func(cfg *Config) { cfg.BindAddr = "0.0.0.0" },
		"plain off loopback": func(cfg *Config) { cfg.BindAddr = "192.0.2.1" },
		"short key":          func(cfg *Config) { cfg.Keys = [][]byte{[]byte("short")} },
		"no timings":         func(cfg *Config) { cfg.Timings = Timings{} },
	} {
		cfg := c.config("a", "127.0.0.1")
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	for _, name := range []string{"lan", "cloud", "wan"} {
		if _, err := Profile(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := Profile("moon"); err == nil {
		t.Error("an unknown profile is accepted")
	}
}

// The second on one address is refused, and told which.
func TestAddressInUse(t *testing.T) {
	c := &cluster{t: t}
	first := c.start(c.config("a", "127.0.0.6"))
	cfg := c.config("b", "127.0.0.6")
	cfg.BindPort = port(t, first.Addr())
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(context.Background(), c.seeds); err == nil || !strings.Contains(err.Error(), first.Addr()) {
		t.Fatalf("got %v, want an error naming %s", err, first.Addr())
	}
}

func trouble(l interface{ Impaired() (string, time.Time) }) string {
	reason, _ := l.Impaired()
	return reason
}
