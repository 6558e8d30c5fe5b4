package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

func TestProfiles(t *testing.T) {
	for _, name := range []string{"lan", "cloud", "wan"} {
		p, err := Profile(name)
		must(t, err)
		c := raft.DefaultConfig()
		c.LocalID = "x"
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = p.Heartbeat, p.Election, p.LeaderLease, p.Commit
		c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = p.SnapshotInterval, p.SnapshotThreshold, p.TrailingLogs
		if err := raft.ValidateConfig(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if reserve := time.Duration(p.TrailingLogs) * time.Second / commandRate; reserve < time.Minute {
			t.Errorf("%s: a follower may be away for %v only", name, reserve)
		}
		if p.RPC <= p.Stall {
			t.Errorf("%s: a message (%v) ends before a stall is known (%v)", name, p.RPC, p.Stall)
		}
	}
	if lan, _ := Profile("lan"); lan.Heartbeat != 300*time.Millisecond || lan.Election != 300*time.Millisecond {
		t.Errorf("lan: %v, %v", lan.Heartbeat, lan.Election)
	}
	if _, err := Profile("moon"); err == nil {
		t.Error("an unknown profile is accepted")
	}
}

func TestSlowDiskIsSaid(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	// The watching goroutine must not look meanwhile.
	s.stopWatch()
	<-s.watched
	for range paceSamples {
		s.pace.observe(time.Millisecond)
	}
	s.pace.observe(time.Second)
	s.checkPace()
	if got := s.pace.p999(); got != time.Millisecond {
		t.Errorf("one slow write in %d makes the 99.9th percentile %v", paceSamples, got)
	}
	for range 5 {
		s.pace.observe(lan(t).Heartbeat)
	}
	s.checkPace()
	if i := s.Status().Impaired; len(i) != 1 || i[0].What != "slow disk" || !strings.Contains(i[0].Reason, "300ms") {
		t.Errorf("impaired %+v", i)
	}
	for range paceSamples {
		s.pace.observe(time.Millisecond)
	}
	s.checkPace()
	if i := s.Status().Impaired; len(i) != 0 {
		t.Errorf("still impaired %+v", i)
	}
}

// The log that is kept for others grows with the rate of commands.
func TestTrailingLogsFollowTheRate(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	s.stopWatch()
	<-s.watched
	index := s.raft.Load().LastIndex()
	now := time.Now()
	w := &s.watching
	w.rateIndex, w.rateAt = index-1, now.Add(-time.Second) // one in a second: far less than the profile's
	s.checkTrailing(now)
	if got := s.raft.Load().ReloadableConfig().TrailingLogs; got != lan(t).TrailingLogs {
		t.Errorf("%d kept at a low rate", got)
	}
	w.rateIndex, w.rateAt = index-1, now.Add(-time.Millisecond) // a thousand a second
	s.checkTrailing(now)
	if got, want := s.raft.Load().ReloadableConfig().TrailingLogs, uint64(1000*trailingTime/time.Second); got != want {
		t.Errorf("%d kept, want %d", got, want)
	}
	w.rateIndex, w.rateAt = index-1, now.Add(-time.Microsecond)
	s.checkTrailing(now)
	if got := s.raft.Load().ReloadableConfig().TrailingLogs; got != maxTrailing {
		t.Errorf("%d kept, want the limit %d", got, maxTrailing)
	}
	for want := uint64(maxTrailing); want > lan(t).TrailingLogs; want /= 2 { // nothing comes any more
		if got := s.raft.Load().ReloadableConfig().TrailingLogs; got != want {
			t.Fatalf("%d kept, want %d: it halves each %s", got, want, trailingTime)
		}
		for range trailingTime/slowInterval + 1 {
			now = now.Add(slowInterval)
			s.checkTrailing(now)
		}
	}
	for range 2 * trailingTime / slowInterval {
		now = now.Add(slowInterval)
		s.checkTrailing(now)
	}
	if got := s.raft.Load().ReloadableConfig().TrailingLogs; got != lan(t).TrailingLogs {
		t.Errorf("%d kept after a long calm, want the profile's %d", got, lan(t).TrailingLogs)
	}
}

// A Raft that is started anew replays what the machine has; nothing is applied
// twice, and no snapshot is taken in between.
func TestMachineSkipsWhatItHas(t *testing.T) {
	l := &list{}
	m := &machine{Machine: l}
	for i := uint64(1); i <= 3; i++ {
		m.Apply(&raft.Log{Index: i, Term: 1, Data: []byte("x")})
	}
	m.replayed.Store(0)
	m.Apply(&raft.Log{Index: 1, Term: 1, Data: []byte("x")})
	if _, err := m.Snapshot(); !errors.Is(err, errReplaying) {
		t.Errorf("snapshot in a replay: %v", err)
	}
	m.Apply(&raft.Log{Index: 2, Term: 1, Data: []byte("x")})
	m.Apply(&raft.Log{Index: 3, Term: 1, Data: []byte("x")})
	if _, err := m.Snapshot(); err != nil {
		t.Errorf("snapshot after the replay: %v", err)
	}
	if got := m.Apply(&raft.Log{Index: 4, Term: 1, Data: []byte("x")}); got != 4 || len(l.all()) != 4 {
		t.Errorf("%v entries, want 4", got)
	}
	if err := m.Restore(io.NopCloser(strings.NewReader("garbage"))); err == nil || len(l.all()) != 4 {
		t.Errorf("restore of garbage: %v, and %d entries", err, len(l.all()))
	}
}

func TestWarningsAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	h := newHCLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l := h.as("raft")
	for range 50 {
		l.Error("failed to heartbeat to", "peer", "n2", "backoff time", time.Second)
		l.Error("failed to heartbeat to", "peer", "n3", "servers", hclog.Fmt("%d of %d", 1, 2))
		l.Debug("not for people")
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], "1 of 2") || !strings.Contains(lines[0], "level=WARN") {
		t.Fatalf("logged %q", lines)
	}
	if n, ok := h.fresh("failed to heartbeat to n2", time.Now().Add(2*repeatAfter)); !ok || n != 49 {
		t.Errorf("after a minute: %d, %v", n, ok)
	}
	for i := range 3 * maxRepeats {
		h.fresh(fmt.Sprint(i), time.Now())
	}
	if len(h.seen) > maxRepeats {
		t.Errorf("%d warnings remembered", len(h.seen))
	}
}

func TestOpenRefuses(t *testing.T) {
	c := &cluster{t: t}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	for what, edit := range map[string]func(*Config){
		"no ID":              func(cfg *Config) { cfg.ID = "" },
		"no folder":          func(cfg *Config) { cfg.Dir = "" },
		"no timings":         func(cfg *Config) { cfg.Timings = Timings{} },
		"every address":      func(cfg *Config) { cfg.Addr = "0.0.0.0:0" },
		"plain off loopback": func(cfg *Config) { cfg.Addr = "192.0.2.1:7481" },
		"no address":         func(cfg *Config) { cfg.Addr = "nonsense" },
		"a taken address":    func(cfg *Config) { cfg.Addr = taken.Addr().String() },
		"a lease too long":   func(cfg *Config) { cfg.Timings.LeaderLease = time.Hour },
		"a file as a folder": func(cfg *Config) { cfg.Dir = filepath.Join("/dev/null", "x") },
	} {
		cfg := c.config("n1")
		edit(&cfg)
		n, err := Open(cfg, &list{})
		if err == nil {
			n.Close(t.Context())
			t.Errorf("%s is accepted", what)
		}
	}
}

func TestQueueHasALimit(t *testing.T) {
	var i inflight
	i.init()
	for range maxInflight {
		must(t, i.enter())
	}
	if err := i.enter(); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v, want ErrBusy", err)
	}
	i.leave()
	must(t, i.enter())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	i.close(ctx)
	if err := i.enter(); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	for range maxInflight {
		i.leave()
	}
	<-i.idle
}

func TestInboundConnectionsHaveALimit(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	var all []net.Conn
	defer func() {
		for _, conn := range all {
			conn.Close()
		}
	}()
	for range maxInbound + 20 {
		conn, err := net.Dial("tcp", s.Addr())
		must(t, err)
		all = append(all, conn)
	}
	// The last is closed by the node; the first is not.
	last := all[len(all)-1]
	must(t, last.SetReadDeadline(time.Now().Add(patience)))
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("the one beyond the limit: %v", err)
	}
	until(t, "the limit holds", func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.inbound == maxInbound
	})
	for _, conn := range all {
		conn.Close()
	}
	until(t, "they are forgotten", func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.inbound == 0 && len(s.gate.conns) == 0
	})
	c.propose("works")
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.Registry = r })
	s := c.leader()
	c.propose("x")
	must(t, s.raft.Load().Snapshot().Error())
	all, err := r.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, f := range all {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if got["orch_raft_leader"] != 1 || got["orch_raft_fenced"] != 0 || got["orch_raft_db_bytes"] < 4096 || got["orch_raft_applied_index"] < 2 {
		t.Errorf("metrics %v", got)
	}
	if got["orch_raft_snapshots"] != 1 || got["orch_raft_snapshot_bytes"] < 20 {
		t.Errorf("snapshots: %v", got)
	}
	s.close(t)
	if all, err := r.Gather(); err != nil || len(all) != 0 {
		t.Errorf("after close: %d metrics, %v", len(all), err)
	}
}

// Many at once share messages and writes, and all are applied, in one order.
func TestConcurrentProposals(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	const writers, each = 32, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, _, err := leader.Propose(within(t, patience), []byte(fmt.Sprint(w, "/", i))); err != nil {
					t.Errorf("%d/%d: %v", w, i, err)
				}
			}
		})
	}
	wg.Wait()
	c.agree()
	if got := len(c.servers[1].list.all()); got != writers*each {
		t.Errorf("%d applied, want %d", got, writers*each)
	}
}
