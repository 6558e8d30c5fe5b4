package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orch/scripts/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a condition may take on a machine that others use too.
const patience = 20 * time.Second

// list is a small real machine: an ordered list of what was proposed. "refuse"
// is refused.
type list struct {
	mu      sync.Mutex
	Entries []entry
	hold    chan struct{} // Apply waits until it is closed, when set
}

type entry struct {
	Index, Term uint64
	Data        string
}

var errRefused = errors.New("refused by the machine")

func (l *list) Apply(index, term uint64, data []byte) any {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if string(data) == "refuse" {
		return errRefused
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Entries = append(l.Entries, entry{index, term, string(data)})
	return len(l.Entries)
}

func (l *list) Snapshot() func(io.Writer) error {
	all := l.all()
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(all) }
}

func (l *list) Restore(r io.Reader) error {
	var all []entry
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Entries = all
	return nil
}

func (l *list) all() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.Entries)
}

func (l *list) has(data string) bool {
	return slices.ContainsFunc(l.all(), func(e entry) bool { return e.Data == data })
}

// server is one node of a test's cluster, which can be closed and reopened.
type server struct {
	*Node
	list *list
	cfg  Config
}

type cluster struct {
	t       testing.TB
	servers []*server
}

func lan(t testing.TB) Timings {
	t.Helper()
	timings, err := Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	return timings
}

func (c *cluster) config(id string) Config {
	return Config{ID: id, Addr: "127.0.0.1:0", Dir: local.Folder(c.t), Timings: lan(c.t), Logger: logger(c.t)}
}

func logger(t testing.TB) *slog.Logger {
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	w := &quiet{w: t.Output()}
	t.Cleanup(w.stop)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
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

func (c *cluster) open(cfg Config) *server {
	c.t.Helper()
	s := &server{list: &list{}, cfg: cfg}
	n, err := Open(cfg, s.list)
	if err != nil {
		c.t.Fatal(err)
	}
	s.Node = n
	s.cfg.Addr = n.Addr()
	c.t.Cleanup(func() { s.close(c.t) })
	return s
}

func (s *server) close(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Node.Close(ctx); err != nil {
		t.Errorf("close %s: %v", s.cfg.ID, err)
	}
}

// reopen starts a closed server on its folder and address, with an empty machine.
func (c *cluster) reopen(s *server) {
	c.t.Helper()
	fresh := c.open(s.cfg)
	*s = *fresh
}

// newCluster makes n voters. edit may change each node's Config.
func newCluster(t testing.TB, n int, edit func(i int, cfg *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for i := range n {
		cfg := c.config(fmt.Sprintf("n%d", i+1))
		if edit != nil {
			edit(i, &cfg)
		}
		c.servers = append(c.servers, c.open(cfg))
	}
	ctx := within(t, patience)
	if err := c.servers[0].Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	c.leader()
	for _, s := range c.servers[1:] { // a leader whose disk stalls may be lost in between
		until(t, s.cfg.ID+" is a member", func() bool { return c.leader().AddNonvoter(ctx, s.cfg.ID, s.Addr()) == nil })
		at := c.leader().Status().Commit
		until(t, s.cfg.ID+" has caught up", func() bool { return s.Status().Applied >= at })
		until(t, s.cfg.ID+" has a vote", func() bool { return c.leader().AddVoter(ctx, s.cfg.ID, s.Addr()) == nil })
	}
	for _, s := range c.servers {
		// Of all, not of its own alone: one that does not know another's vote yet elects nobody.
		until(t, s.cfg.ID+" knows all votes", func() bool {
			all, err := s.Members()
			return err == nil && len(all) == n && !slices.ContainsFunc(all, func(m Member) bool { return !m.Voter })
		})
	}
	return c
}

// leader waits for one that can commit. Those in without are not asked.
func (c *cluster) leader(without ...*server) *server {
	c.t.Helper()
	var found *server
	until(c.t, "there is a leader", func() bool {
		for _, s := range c.servers {
			if slices.Contains(without, s) || !s.leading.Load() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := s.Barrier(ctx)
			cancel()
			if err == nil {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) others(than *server) []*server {
	return slices.DeleteFunc(slices.Clone(c.servers), func(s *server) bool { return s == than })
}

// propose adds data through whoever leads; it is sure to be applied after it.
func (c *cluster) propose(data string, without ...*server) {
	c.t.Helper()
	until(c.t, "accepted: "+data, func() bool {
		_, _, err := c.leader(without...).Propose(within(c.t, 2*time.Second), []byte(data))
		return err == nil
	})
}

// agree waits until all lists are equal and have what must be there.
func (c *cluster) agree(has ...string) {
	c.t.Helper()
	c.agreeAmong(c.servers, has...)
}

func (c *cluster) agreeAmong(all []*server, has ...string) {
	c.t.Helper()
	until(c.t, "all machines are equal", func() bool {
		first := all[0].list.all()
		for _, h := range has {
			if !all[0].list.has(h) {
				return false
			}
		}
		for _, s := range all[1:] {
			if !slices.Equal(first, s.list.all()) {
				return false
			}
		}
		return true
	})
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// until polls a condition; it fails the test when that does not come true.
func until(t testing.TB, what string, is func() bool) {
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
