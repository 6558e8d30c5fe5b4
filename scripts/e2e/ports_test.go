package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"orch/scripts/lab"
)

// street is a network beside this machine: a namespace with two addresses, and a cable
// to it. Who calls from there comes from another machine, as far as this one can tell.
type street struct {
	t                    *testing.T
	ns                   string
	here, node, stranger string // addresses: this machine's, and two of the other side
}

// newStreet skips where none can be made, but not in CI.
func newStreet(t *testing.T) *street {
	t.Helper()
	need := func(err error) {
		switch {
		case err == nil:
		case os.Getenv("CI") == "true":
			t.Fatalf("namespaces, iptables and Docker are needed: %v", err)
		default:
			t.Skipf("needs root, iproute2, iptables and Docker: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		need(errors.New("not root"))
	}
	if programs.Engine != "docker" {
		need(errors.New("no Docker Engine answers"))
	}
	for _, name := range []string{"ip", "iptables"} {
		_, err := exec.LookPath(name)
		need(err)
	}
	tag := fmt.Sprintf("%04x", mrand.Uint32()&0xffff)
	net := fmt.Sprintf("10.%d.%d.", 200+mrand.IntN(50), mrand.IntN(256))
	s := &street{t: t, ns: "orche2e-" + tag, here: net + "1", node: net + "2", stranger: net + "3"}
	_, err := command("ip", "netns", "add", s.ns)
	need(err)
	t.Cleanup(func() { // the cable goes with it
		if _, err := command("ip", "netns", "del", s.ns); err != nil {
			t.Error(err)
		}
	})
	link := "orche2e" + tag
	for _, args := range []string{
		"link add " + link + " type veth peer name eth0 netns " + s.ns,
		"addr add " + s.here + "/24 dev " + link,
		"link set " + link + " up",
		"-n " + s.ns + " link set lo up",
		"-n " + s.ns + " addr add " + s.node + "/24 dev eth0",
		"-n " + s.ns + " addr add " + s.stranger + "/24 dev eth0",
		"-n " + s.ns + " link set eth0 up",
	} {
		_, err := command("ip", strings.Fields(args)...)
		need(err)
	}
	return s
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// inside calls f on a thread that is in the namespace; what f opens is there too. The
// thread ends with the goroutine, since nothing unlocks it.
func (s *street) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(filepath.Join("/run/netns", s.ns))
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

// dial connects from an address of the other side.
func (s *street) dial(from, network, addr string, within time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: within, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	err = s.inside(func() error {
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// silence is how long no answer to a connection counts as none: long, on a cable of its
// own.
const silence = 400 * time.Millisecond

// scan connects to every TCP port of this machine from an address of the other side, and
// returns those that accept.
func (s *street) scan(from string) []int {
	s.t.Helper()
	var mu sync.Mutex
	var open []int
	var next atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			err := s.inside(func() error {
				d := net.Dialer{Timeout: silence, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				for p := int(next.Add(1)); p <= 65535; p = int(next.Add(1)) {
					c, err := d.Dial("tcp", net.JoinHostPort(s.here, strconv.Itoa(p)))
					if err == nil {
						c.Close()
						mu.Lock()
						open = append(open, p)
						mu.Unlock()
					}
				}
				return nil
			})
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(open)
	return open
}

// hears sends bytes to a TCP port and returns what comes back within a moment.
func (s *street) hears(from string, port int, config *tls.Config, what []byte) []byte {
	s.t.Helper()
	c, err := s.dial(from, "tcp", net.JoinHostPort(s.here, strconv.Itoa(port)), 5*time.Second)
	if err != nil {
		s.t.Errorf("port %d: %v", port, err)
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if config != nil {
		c = tls.Client(c, config)
	}
	c.Write(what)
	b, _ := io.ReadAll(io.LimitReader(c, 4096)) // an end, a reset and silence are all no answer
	return b
}

// serves says whether a container's port answers an address.
func (s *street) serves(from string, row lab.Row, within time.Duration) error {
	c, err := s.dial(from, "tcp", row.Addr, within)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	fmt.Fprintf(c, "GET /api/v1/_health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", row.Addr)
	b, _ := io.ReadAll(io.LimitReader(c, 4096))
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("%s says %q", row.Addr, b)
	}
	return nil
}

// settle lays out a node on this side and its peer on the other.
func (s *street) settle(c *lab.Cluster) *lab.Node {
	n, peer := lab.Add(c, "n1", s.here), lab.Add(c, "n2", s.node)
	metrics := fmt.Sprintf("127.%d.%d.1:7483", 10+mrand.IntN(240), mrand.IntN(256))
	n.Extra = []string{"--metrics-addr=" + metrics}
	peer.Extra = []string{"--metrics-addr=127.0.0.1:7483", "--engine=process", "--volume-dir=" + filepath.Join(c.Dir, "beyond")} // Docker publishes on this side only
	peer.Under = []string{"ip", "netns", "exec", s.ns}
	return n
}

// TestAllPortsFromAnotherMachine: of the 65,535 only the public one answers whoever has no
// certificate; a container's port answers nodes, and again when somebody has flushed the
// rules.
func TestAllPortsFromAnotherMachine(t *testing.T) {
	s := newStreet(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	c := lab.New(programs, dir, 0)
	takeDown(t, c)
	foreign := s.scan(s.stranger) // what this machine has besides
	n := s.settle(c)
	path, err := c.Spec("acts", spec(2, 2))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Up(ctx, path); err != nil {
		t.Fatal(err)
	}
	rows, err := n.Healthy(within(t, ctx, 60*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(r lab.Row) bool { return r.Node == n.ID })
	if i < 0 {
		t.Fatalf("no container on %s: %+v", n.ID, rows)
	}
	own := rows[i]
	guarded := func() error {
		return lab.Until(within(t, ctx, 30*time.Second), 100*time.Millisecond, func() error {
			if err := s.serves(s.stranger, own, silence); err == nil {
				return fmt.Errorf("%s answers a stranger", own.Addr)
			}
			return s.serves(s.node, own, 5*time.Second)
		})
	}
	if err := guarded(); err != nil {
		t.Fatal(err)
	}

	open := slices.DeleteFunc(s.scan(s.stranger), func(p int) bool { return slices.Contains(foreign, p) })
	if want := []int{80, 7480, 7481, 7482}; !slices.Equal(open, want) {
		t.Errorf("ports %v accept connections, want %v", open, want)
	}
	s.strangersAreRefused(open)

	for name, flush := range map[string][]string{
		"the chain":      {"-F CHAIN"},
		"its jumps":      {"-D DOCKER-USER -j CHAIN", "-D INPUT -j CHAIN"},
		"all that is it": {"-D DOCKER-USER -j CHAIN", "-D INPUT -j CHAIN", "-F CHAIN", "-X CHAIN"},
	} {
		chain := s.chain()
		for _, rule := range flush {
			if _, err := command("iptables", append([]string{"-w"}, strings.Fields(strings.ReplaceAll(rule, "CHAIN", chain))...)...); err != nil {
				t.Fatal(err)
			}
		}
		if err := guarded(); err != nil {
			t.Errorf("after a flush of %s: %v", name, err)
		}
	}
}

// strangersAreRefused at all ports but the public one, which answers.
func (s *street) strangersAreRefused(open []int) {
	s.t.Helper()
	noise := make([]byte, 2048)
	rand.Read(noise)
	get := []byte("GET / HTTP/1.1\r\nHost: " + s.here + "\r\nConnection: close\r\n\r\n")
	for _, port := range open {
		if port == 80 {
			if b := s.hears(s.stranger, port, nil, get); !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
				s.t.Errorf("the public port says %q", b)
			}
			continue
		}
		for name, what := range map[string][]byte{"HTTP": get, "noise": noise, "zeros": make([]byte, 512)} {
			if b := s.hears(s.stranger, port, nil, what); len(b) > 7 { // an alert of TLS
				s.t.Errorf("port %d answers %s with %q", port, name, b)
			}
		}
		bare := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
		if b := s.hears(s.stranger, port, bare, get); len(b) > 0 {
			s.t.Errorf("port %d answers without a certificate: %q", port, b)
		}
	}
	s.gossipIsSilent(noise)
}

// gossipIsSilent: the UDP port says nothing to who has not the key.
func (s *street) gossipIsSilent(noise []byte) {
	s.t.Helper()
	c, err := s.dial(s.stranger, "udp", s.here+":7482", time.Second)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	ping := []byte{0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1, 0xa4, 'N', 'o', 'd', 'e', 0xa2, 'n', '1'}
	for i := range 200 {
		c.Write(append(ping, noise[:i]...))
		c.Write(noise[i : i+200])
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	if k, err := c.Read(make([]byte, 2048)); !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("gossip answers a stranger: %d bytes, %v", k, err)
	}
}

// chain is the one that guards this machine's address.
func (s *street) chain() string {
	s.t.Helper()
	rules, err := command("iptables", "-w", "-S")
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^-A (ORCHD-\S+) .*` + regexp.QuoteMeta(s.here) + `\b`).FindStringSubmatch(rules)
	if m == nil {
		s.t.Fatalf("no chain guards %s:\n%s", s.here, rules)
	}
	return m[1]
}
