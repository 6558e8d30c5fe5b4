package firewall

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// guarded is a firewall that runs on the node of a world.
type guarded struct {
	*Firewall
	peers atomic.Pointer[[]netip.Addr]
	poke  chan struct{}
	log   safeBuffer
	stop  func()
}

// guard starts one; edit may be nil.
func (w *world) guard(edit func(*Config), peers ...string) *guarded {
	w.t.Helper()
	g := &guarded{poke: make(chan struct{}, 1)}
	g.set(peers...)
	g.Firewall = testFirewall(w.t, func(c *Config) {
		c.Address, c.Interval = netip.MustParseAddr(nodeAddr), 100*time.Millisecond
		c.Containers = func() []netip.Addr { return addrs(containerAddr) }
		c.Open, c.Logger = []uint16{8888}, slog.New(slog.NewTextHandler(&g.log, nil))
		if edit != nil {
			edit(c)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.try("node", func() error {
			return g.Run(ctx, func() []netip.Addr { return *g.peers.Load() }, g.poke)
		})
	}()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	w.t.Cleanup(g.stop)
	g.logs(w.t, "container ports answer to peers only")
	return g
}

func (g *guarded) set(peers ...string) {
	list := addrs(append(peers, nodeAddr)...)
	g.peers.Store(&list)
}

// logs waits for a line.
func (g *guarded) logs(t *testing.T, line string) {
	t.Helper()
	until(t, line, func() bool { return strings.Contains(g.log.String(), line) })
}

// TestOnlyPeersReachContainers on real packets: through Docker's redirection, whatever
// port the container listens on itself, and past it, as Docker's userland proxy and a
// plain process are reached.
func TestOnlyPeersReachContainers(t *testing.T) {
	w := newWorld(t)
	w.serve("container", ":80")
	w.serve("container", ":8000")
	w.serve("node", nodeAddr+":8500") // without redirection
	w.serve("node", nodeAddr+":8888") // as its proxy
	w.serve("node", nodeAddr+":7999")
	w.serve("stranger", ":8080")
	inRange := []string{nodeAddr + ":8000", nodeAddr + ":8999", nodeAddr + ":8500"}
	for _, addr := range inRange {
		w.open("stranger", addr) // it is the rules that shut it out
	}
	for _, host := range []string{"stranger", "peer"} { // who routes to the container himself
		w.ip(host, "route add 172.31.77.0/24 via "+nodeAddr)
		w.open(host, containerAddr+":8000")
	}
	before := w.filter()

	g := w.guard(func(c *Config) { c.Interval = time.Hour }, around["peer"]) // so that only a poke makes it look again
	for _, addr := range inRange {
		w.open("peer", addr)
		w.shut("stranger", addr)
		w.open("node", addr)
	}
	w.shut("stranger", containerAddr+":8000")
	w.open("peer", containerAddr+":8000")
	w.open("node", containerAddr+":8000")
	// Other ports, those of others, the way out of a container and the one to its
	// neighbours are nobody's business here.
	for host, addr := range map[string]string{"stranger": nodeAddr + ":9000", "peer": nodeAddr + ":7999", "newcomer": nodeAddr + ":8888", "container": around["stranger"] + ":8080"} {
		w.open(host, addr)
	}
	w.open("container", nodeAddr+":8500")
	w.openFrom("node", "127.0.0.1", nodeAddr+":8500") // another of this machine's own addresses

	w.shut("newcomer", nodeAddr+":8000")
	g.set(around["peer"], around["newcomer"])
	g.poke <- struct{}{}
	until(t, "the newcomer is let in", func() bool { return w.reaches("newcomer", nodeAddr+":8000", impatience) })
	w.open("peer", nodeAddr+":8000")
	g.set(around["newcomer"])
	g.poke <- struct{}{}
	until(t, "the one that left is shut out", func() bool { return !w.reaches("peer", nodeAddr+":8000", impatience) })
	w.shut("stranger", nodeAddr+":8000")
	if s := g.State(); s.Reason != "" {
		t.Errorf("state: %s", s.Reason)
	}

	g.stop()
	w.shut("stranger", nodeAddr+":8000") // the end of the daemon opens nothing
	other := testFirewall(t, func(c *Config) { onLoopback(c); c.Node = "n2" })
	w.inside("node", func() error { return other.Remove(t.Context()) })
	if !strings.Contains(w.filter(), "-A INPUT -j "+g.Chain()) {
		t.Error("the rules went with another node's")
	}
	// Who removes them may know the cluster and the node alone.
	w.inside("node", func() error { return testFirewall(t, onLoopback).Remove(t.Context()) })
	if after := w.filter(); withoutCounts(after) != withoutCounts(before) {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
	w.open("stranger", nodeAddr+":8000")
	w.inside("node", func() error { return g.Remove(t.Context()) }) // twice is once
}

// TestFlushedRulesComeBack whatever is flushed, and nothing that is not ours comes,
// goes or moves.
func TestFlushedRulesComeBack(t *testing.T) {
	w := newWorld(t)
	w.serve("container", ":80")
	w.serve("node", nodeAddr+":8500")
	g := w.guard(nil, around["peer"])
	mine := strings.Count(w.filter(), g.Chain())
	for name, flush := range map[string]string{
		"DOCKER-USER":       "*filter\n-F DOCKER-USER\nCOMMIT\n",
		"INPUT":             "*filter\n-F INPUT\nCOMMIT\n",
		"our chain":         "*filter\n-F CHAIN\nCOMMIT\n",
		"our jumps":         "*filter\n-D INPUT -j CHAIN\n-D DOCKER-USER -j CHAIN\nCOMMIT\n",
		"our chain's end":   "*filter\n-D CHAIN 3\nCOMMIT\n",
		"the whole chain":   "*filter\n-D INPUT -j CHAIN\n-D DOCKER-USER -j CHAIN\n-F CHAIN\n-X CHAIN\nCOMMIT\n",
		"somebody's answer": "*filter\n-I DOCKER-USER 1 -j RETURN\nCOMMIT\n",
	} {
		w.shut("stranger", nodeAddr+":8000")
		times := strings.Count(g.log.String(), "in force again")
		w.run("node", strings.ReplaceAll(flush, "CHAIN", g.Chain()), "iptables-restore", "--noflush")
		until(t, name+": noticed", func() bool { return strings.Count(g.log.String(), "in force again") > times })
		w.shut("stranger", nodeAddr+":8000")
		w.shut("stranger", nodeAddr+":8500")
		w.open("peer", nodeAddr+":8000")
		if n := strings.Count(w.filter(), g.Chain()); n != mine {
			t.Errorf("%s: our chain is named %d times, %d before:\n%s", name, n, mine, w.filter())
		}
	}
	w.run("node", "*filter\n-A DOCKER-USER -s 198.51.100.0/24 -j DROP\n-I DOCKER-USER 1 -s 203.0.113.0/24 -j DROP\nCOMMIT\n", "iptables-restore", "--noflush")
	theirs := w.run("node", "", "iptables", "-S", "DOCKER-USER")
	times := strings.Count(g.log.String(), "in force again")
	w.run("node", "*filter\n-F "+g.Chain()+"\nCOMMIT\n", "iptables-restore", "--noflush")
	until(t, "noticed", func() bool { return strings.Count(g.log.String(), "in force again") > times })
	if now := w.run("node", "", "iptables", "-S", "DOCKER-USER"); now != theirs {
		t.Errorf("rules of others:\n%s\nbefore:\n%s", now, theirs)
	}
}

// TestDockerComesLater: until Docker has made its chains ours is reached from FORWARD,
// then from where Docker leaves it alone.
func TestDockerComesLater(t *testing.T) {
	w := newWorld(t)
	w.serve("container", ":80")
	w.run("node", "", "iptables", "-F", "FORWARD")
	w.run("node", "", "iptables", "-F", "DOCKER-USER")
	w.run("node", "", "iptables", "-X", "DOCKER-USER")
	w.run("node", "", "iptables", "-P", "FORWARD", "ACCEPT")
	w.open("stranger", nodeAddr+":8000")
	g := w.guard(nil, around["peer"])
	w.shut("stranger", nodeAddr+":8000")
	w.open("peer", nodeAddr+":8000")
	_, filter, _ := strings.Cut(dockerRules, "*filter")
	w.run("node", "*filter"+filter, "iptables-restore", "--noflush")
	until(t, "the jump has moved", func() bool {
		return strings.Contains(w.filter(), "-A DOCKER-USER -j "+g.Chain()) && !strings.Contains(w.filter(), "-A FORWARD -j "+g.Chain())
	})
	w.shut("stranger", nodeAddr+":8000")
	w.open("peer", nodeAddr+":8000")
}

// TestContainersElsewhere: on a bridge that the rules do not know, containers lose the
// way to their own machine's ports, and nothing else: not what they are asked by peers,
// nor what they ask others.
func TestContainersElsewhere(t *testing.T) {
	w := newWorld(t)
	w.serve("container", ":80")
	w.serve("stranger", ":8080")
	w.guard(func(c *Config) { c.Bridge = "other0" }, around["peer"])
	w.open("peer", nodeAddr+":8000")
	w.shut("stranger", nodeAddr+":8000")
	w.open("container", around["stranger"]+":8080")
}

// TestIPv6 is guarded by the tables of its own; there Docker's userland proxy is the
// common way in.
func TestIPv6(t *testing.T) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skipf("a kernel without IPv6: %v", err)
	}
	w := newWorld(t)
	const node = "fd77::1"
	w.ip("node", "addr add "+node+"/64 dev lan0 nodad")
	w.ip("peer", "addr add fd77::2/64 dev eth0 nodad")
	w.ip("stranger", "addr add fd77::3/64 dev eth0 nodad")
	w.serve("node", "["+node+"]:8000")
	w.serve("node", nodeAddr+":8500")
	w.open("stranger", "["+node+"]:8000")
	g := w.guard(func(c *Config) { c.Address = netip.MustParseAddr(node) }, "fd77::2", around["peer"])
	w.shut("stranger", "["+node+"]:8000")
	w.open("peer", "["+node+"]:8000")
	w.open("stranger", nodeAddr+":8500") // not this node's address
	g.stop()
	w.inside("node", func() error { return testFirewall(t, onLoopback).Remove(t.Context()) }) // an address of the other family
	w.open("stranger", "["+node+"]:8000")
	if left := w.run("node", "", "ip6tables-save", "-t", "filter"); strings.Contains(left, "ORCHD") {
		t.Errorf("left behind:\n%s", left)
	}
}

// withoutCounts cuts what differs between two listings of the same rules: the date and
// the counters.
func withoutCounts(listing string) (out string) {
	for line := range strings.Lines(listing) {
		if !strings.HasPrefix(line, "#") {
			line, _, _ = strings.Cut(line, " [")
			out += strings.TrimSpace(line) + "\n"
		}
	}
	return out
}
