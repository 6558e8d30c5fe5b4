package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"orch/fsm"
)

func TestWhoReachesContainers(t *testing.T) {
	n := &Node{cfg: Config{NodeID: "n2", Addr: "10.0.0.2"}, store: cluster(t)}
	if got := fmt.Sprint(n.peerAddrs()); got != "[10.0.0.1 10.0.0.2]" {
		t.Errorf("peers %s", got)
	}
	if got := n.ownContainers(); len(got) != 2 || got[0] != netip.MustParseAddr("172.17.0.9") {
		t.Errorf("containers %v", got)
	}
	n1, _ := n.store.View().Node("n1")
	apply(t, n.store, 100, fsm.SetNodeStatus{ID: "n1", Seen: n1.Index, Status: fsm.NodeDead})
	if got := fmt.Sprint(n.peerAddrs()); got != "[10.0.0.1 10.0.0.2]" {
		t.Errorf("peers while one is dead, which may come back: %s", got)
	}
	n1, _ = n.store.View().Node("n1")
	apply(t, n.store, 101, fsm.SetNodeStatus{ID: "n1", Seen: n1.Index, Status: fsm.NodeLeft})
	if got := fmt.Sprint(n.peerAddrs()); got != "[10.0.0.2]" {
		t.Errorf("peers after one has left: %s", got)
	}
	c := Config{Addr: "10.0.0.2", ProxyAddr: ":8080", APIAddr: "10.0.0.2:8480"}.Complete()
	if got := fmt.Sprint(c.ownPorts()); got != "[8080 8480 7481 7482]" {
		t.Errorf("the daemon's own ports: %s", got)
	}
}

// TestUnguardedPortsAreImpaired: what keeps the ports open stands in status, unless the
// operator has said that it is his business, or nobody else reaches the address.
func TestUnguardedPortsAreImpaired(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, c := range map[string]struct {
		addr, firewall string
		want           bool
	}{
		"guarded":  {"10.0.0.2", firewallAuto, true},
		"off":      {"10.0.0.2", firewallOff, false},
		"loopback": {"127.0.0.2", firewallAuto, false},
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		n := &Node{cfg: Config{NodeID: "n2", Addr: c.addr, Firewall: c.firewall, Logger: logger}, log: logger, store: cluster(t), joined: make(chan struct{})}
		n.member.ClusterID = "c"
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.guards(ctx) }()
		if n.unguarded() != nil {
			t.Errorf("%s: impaired in no cluster", name)
		}
		close(n.joined)
		if c.want {
			tick := time.NewTicker(5 * time.Millisecond)
			for deadline := time.Now().Add(time.Minute); len(n.unguarded()) == 0 && time.Now().Before(deadline); {
				<-tick.C
			}
			tick.Stop()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got := n.unguarded()
		if (len(got) == 1) != c.want || c.want && !strings.Contains(got[0].Reason, "container ports 8000-8999 are open to everybody who reaches 10.0.0.2: not installed") {
			t.Errorf("%s: %+v\n%s", name, got, log.String())
		}
		n.unguard()
	}
}
