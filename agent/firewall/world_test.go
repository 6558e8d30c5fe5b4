package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Addresses of a world, which nobody outside of its namespaces sees.
const (
	nodeAddr      = "10.77.0.1"
	containerAddr = "172.31.77.2"
)

// world is a node, a container on it and hosts around it, each a network namespace of
// its own, with the rules that Docker makes for published ports.
type world struct {
	t     *testing.T
	hosts map[string]string // name to namespace
}

// hosts of a world and their addresses on the node's network.
var around = map[string]string{"peer": "10.77.0.2", "stranger": "10.77.0.3", "newcomer": "10.77.0.4"}

// dockerRules are those of Docker 20.10 for two containers' ports of one container.
const dockerRules = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.31.77.0/24 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER -d 10.77.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 172.31.77.2:80
-A DOCKER -d 10.77.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8999 -j DNAT --to-destination 172.31.77.2:80
-A DOCKER -d 10.77.0.1/32 ! -i docker0 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.31.77.2:8000
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j ACCEPT
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -s 192.0.2.0/24 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
`

// newWorld skips where namespaces can not be made, but not in CI.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, hosts: map[string]string{}}
	need := func(err error) {
		if err == nil {
			return
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("namespaces and iptables are needed: %v", err)
		}
		t.Skipf("needs root, iproute2 and iptables: %v", err)
	}
	if os.Geteuid() != 0 {
		need(errors.New("not root"))
	}
	for _, c := range []string{"ip", "iptables-save", "iptables-restore", "ip6tables-save"} {
		_, err := exec.LookPath(c)
		need(err)
	}
	names := []string{"node", "container"}
	for name := range around {
		names = append(names, name)
	}
	for _, name := range names {
		ns := fmt.Sprintf("orchfw-%d-%s-%d", os.Getpid(), name, time.Now().UnixNano()%1e6)
		_, err := command("", "ip", "netns", "add", ns)
		need(err)
		w.hosts[name] = ns
		t.Cleanup(func() {
			if _, err := command("", "ip", "netns", "del", ns); err != nil {
				t.Error(err)
			}
		})
	}
	w.lay()
	return w
}

// lay makes the links: a bridge for the node's network, one for its containers.
func (w *world) lay() {
	w.ip("node", "link set lo up")
	for bridge, addr := range map[string]string{"lan0": nodeAddr, "docker0": "172.31.77.1"} {
		w.ip("node", "link add "+bridge+" type bridge")
		w.ip("node", "addr add "+addr+"/24 dev "+bridge)
		w.ip("node", "link set "+bridge+" up")
	}
	for name, addr := range around {
		w.join(name, addr, "lan0")
	}
	w.join("container", containerAddr, "docker0")
	w.ip("container", "route add default via 172.31.77.1")
	w.inside("node", func() error { // of this thread's namespace
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	})
	w.run("node", dockerRules, "iptables-restore")
}

// join links a host to a bridge of the node.
func (w *world) join(name, addr, bridge string) {
	w.ip("node", fmt.Sprintf("link add to-%s type veth peer name eth0 netns %s", name, w.hosts[name]))
	w.ip("node", fmt.Sprintf("link set to-%s master %s up", name, bridge))
	w.ip(name, "link set lo up")
	w.ip(name, "addr add "+addr+"/24 dev eth0")
	w.ip(name, "link set eth0 up")
}

func (w *world) ip(host, args string) {
	w.t.Helper()
	w.run(host, "", "ip", strings.Fields(args)...)
}

// run runs a command on a host, and returns what it prints.
func (w *world) run(host, stdin, name string, args ...string) (out string) {
	w.t.Helper()
	w.inside(host, func() (err error) {
		out, err = command(stdin, name, args...)
		return err
	})
	return out
}

func command(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// inside calls f on a thread that is in a host's namespace; what f opens and starts is
// there too. The thread ends with the goroutine, since nothing unlocks it.
func (w *world) inside(host string, f func() error) {
	w.t.Helper()
	if err := w.try(host, f); err != nil {
		w.t.Fatalf("on %s: %v", host, err)
	}
}

func (w *world) try(host string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(filepath.Join("/run/netns", w.hosts[host]))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// serve answers whoever connects to a host's address.
func (w *world) serve(host, addr string) {
	w.t.Helper()
	var l net.Listener
	w.inside(host, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	done := make(chan struct{})
	w.t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
}

// patience is how long an answer may take before a port counts as shut: long for one
// that should be open, since a machine may be busy, short for one that should be shut,
// where each try waits for all of it.
const (
	patience   = 10 * time.Second
	impatience = 300 * time.Millisecond
)

// reaches says whether an address answers a host within a time.
func (w *world) reaches(host, addr string, within time.Duration) bool {
	w.t.Helper()
	return w.reachesFrom(host, "", addr, within)
}

// reachesFrom asks from one of the host's addresses, empty for any.
func (w *world) reachesFrom(host, from, addr string, within time.Duration) bool {
	w.t.Helper()
	err := w.try(host, func() error {
		d := net.Dialer{Timeout: within}
		if from != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(within))
		_, err = io.ReadFull(c, make([]byte, len("hello")))
		return err
	})
	return err == nil
}

// open fails the test unless the address answers the host.
func (w *world) open(host, addr string) {
	w.t.Helper()
	w.openFrom(host, "", addr)
}

func (w *world) openFrom(host, from, addr string) {
	w.t.Helper()
	if !w.reachesFrom(host, from, addr, patience) {
		w.t.Errorf("%s does not reach %s %s", host, addr, from)
	}
}

// shut fails the test if the address answers the host.
func (w *world) shut(host, addr string) {
	w.t.Helper()
	if w.reaches(host, addr, impatience) {
		w.t.Errorf("%s reaches %s", host, addr)
	}
}

// until waits for a condition, long enough for a busy machine.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute: %s", what)
		}
		<-tick.C
	}
}

// filter is the filter table of the node.
func (w *world) filter() string { return w.run("node", "", "iptables-save", "-t", "filter") }
