package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
	"orch/scripts/lab"
)

// listening are the TCP addresses at which a process listens, by the kernel's own tables.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.Trim(to, "socket:[]")] = true
		}
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != "0A" || !own[f[9]] { // 0A: LISTEN
			continue
		}
		host, port, _ := strings.Cut(f[1], ":")
		ip, err := hex.DecodeString(host)
		if err != nil || len(ip) != 4 {
			t.Fatal(line)
		}
		n, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d.%d.%d.%d:%d", ip[3], ip[2], ip[1], ip[0], n))
	}
	return out
}

// probe sends bytes to an address from another one, and returns what comes back until the
// other side is silent for a moment or has closed.
func probe(t *testing.T, from net.IP, addr string, what []byte) []byte {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: 5 * time.Second}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	c.Write(what)
	b, _ := io.ReadAll(io.LimitReader(c, 4096)) // an end, a reset and silence are all no answer
	return b
}

// answered speaks HTTP over TLS with a certificate, and returns the status; 0 is none.
func answered(from net.IP, addr string, config *tls.Config, method, path string) int {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}, Config: config}
		return d.DialContext(ctx, "tcp", addr)
	}
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequest(method, "http://"+addr+path, strings.NewReader("{}"))
	if err != nil {
		return -1
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// stranger is TLS with a certificate that somebody has made for themselves, which trusts
// whatever answers.
func stranger(t *testing.T) *tls.Config {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.Joining(key, [32]byte{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c.VerifyConnection = nil
	return c
}

// foreign is TLS with a certificate of a cluster of that name, whose CA is another's.
func foreign(t *testing.T, cluster, node string) *tls.Config {
	t.Helper()
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(pki.Identity{Cluster: cluster, Node: node}, key.Public(), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{Certificate: [][]byte{cert.Raw, ca.Cert.Raw}, PrivateKey: key, Leaf: cert}
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
}

// TestNothingAnswersStrangers but the proxy: every port on which a node listens, asked
// from another address in every way that needs no certificate of the cluster.
func TestNothingAnswersStrangers(t *testing.T) {
	c, ctx := cluster(t, 2, spec(1, 1))
	n := c.Nodes[0]
	if _, err := n.Healthy(within(t, ctx, 60*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	s, err := n.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	from := net.ParseIP("127.99.99.99")
	noise := make([]byte, 2048)
	rand.Read(noise)
	ports := listening(t, n.Pid())
	if len(ports) < 5 {
		t.Fatalf("only %v are listened on", ports)
	}
	public := net.JoinHostPort(n.IP, lab.ProxyPort())
	for _, addr := range ports {
		host, port, _ := net.SplitHostPort(addr)
		get := []byte("GET /v1/ps HTTP/1.1\r\nHost: " + addr + "\r\nConnection: close\r\n\r\n")
		switch {
		case addr == public:
			if b := probe(t, from, addr, get); !bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
				t.Errorf("the proxy says %q", b)
			}
			continue
		case port == "7483":
			if ip := net.ParseIP(host); !ip.IsLoopback() {
				t.Errorf("metrics are at %s", addr)
			}
			continue
		}
		for name, what := range map[string][]byte{"HTTP": get, "noise": noise, "a head of HTTP/2": []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "zeros": make([]byte, 512)} {
			// TLS may say that this is none of its kind: an alert is 7 bytes.
			if b := probe(t, from, addr, what); len(b) > 7 {
				t.Errorf("%s answers %s with %q", addr, name, b)
			}
		}
		for _, path := range []string{"/v1/ps", "/v1/status", "/v1/trust", "/v1/token", "/v1/snapshot", "/v1/logs?service=acts", "/v1/node/report", "/metrics", "/"} {
			for name, config := range map[string]*tls.Config{
				"no certificate":                       {MinVersion: tls.VersionTLS13, InsecureSkipVerify: true},
				"one of another cluster":               foreign(t, strings.Repeat("ab", 16), "n2"),
				"one of another CA, with our own name": foreign(t, s.ClusterID, "n2"),
			} {
				if code := answered(from, addr, config, "GET", path); code != 0 {
					t.Errorf("%s%s with %s: %d", addr, path, name, code)
				}
			}
			// Who has made one alone is told why it is not enough; Raft does not even do that.
			if code := answered(from, addr, stranger(t), "GET", path); code != 0 && (code != 403 && code != 404 || port != "7480") {
				t.Errorf("%s%s with a certificate of one's own: %d", addr, path, code)
			}
		}
		for _, path := range []string{"/v1/propose", "/v1/services", "/v1/init", "/v1/people", "/v1/suspect"} {
			if code := answered(from, addr, stranger(t), "POST", path); code != 0 && code != 403 {
				t.Errorf("POST %s%s with a certificate of one's own: %d", addr, path, code)
			}
		}
	}
}

// metrics are a node's, as text.
func metrics(n *lab.Node) (string, error) {
	resp, err := http.Get("http://" + net.JoinHostPort(n.IP, "7483") + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// metric reads one number of a node's metrics.
func metric(t *testing.T, n *lab.Node, name string) float64 {
	t.Helper()
	text, err := metrics(n)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` ([0-9.e+]+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, text)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSiege: connections that say nothing, noise on every port, forged gossip, endless
// gossip under the cluster's own ID and ten thousand joins with a forged token. The leader stays, requests are served, an honest
// node joins in the middle of it, the log stays short, and nothing is left behind.
func TestSiege(t *testing.T) {
	// The disk that three nodes share here may stall for longer than a leader on one
	// network may be silent.
	c, ctx := cluster(t, 3, spec(2, 2), "--profile=cloud")
	n := c.Nodes[0]
	if _, err := n.Healthy(within(t, ctx, 60*time.Second), 2); err != nil {
		t.Fatal(err)
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := term(t, ctx, leader)
	goroutines, memory := metric(t, leader, "go_goroutines"), metric(t, leader, "process_resident_memory_bytes")
	token, err := n.Ctl(ctx, "token", "show", "-q")
	if err != nil {
		t.Fatal(err)
	}
	load, stop := context.WithCancel(ctx)
	var l lab.Load
	var loading sync.WaitGroup
	served := c.Nodes[1]
	loading.Go(func() { l.Run(load, served, "/api/v1/categories", 5*time.Millisecond) })

	var silent []net.Conn
	for _, port := range []string{"7480", "7481", "7482"} {
		for i := range 200 {
			conn, err := net.Dial("tcp", net.JoinHostPort(leader.IP, port))
			if err != nil {
				t.Fatal(err)
			}
			silent = append(silent, conn)
			if i%2 == 0 {
				noise := make([]byte, 64)
				rand.Read(noise)
				conn.Write(noise)
			}
		}
	}
	udp, err := net.Dial("udp", net.JoinHostPort(leader.IP, "7482"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		packet := make([]byte, 1+i%1200)
		rand.Read(packet)
		packet[0] = byte(i % 16) // memberlist's kinds of message, and some more
		udp.Write(packet)
	}
	udp.Close()

	from := net.ParseIP("127.99.99.99")
	s, err := leader.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	read := hoard(t, leader, from, s.ClusterID)
	fails := flood(t, ctx, leader, from, 10_000)
	late := lab.Add(c, "n4", leader.IP[:strings.LastIndex(leader.IP, ".")]+".44")
	if err := late.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := late.JoinBy(ctx, leader, token); err != nil {
		t.Errorf("an honest join: %s", out)
	}
	waits(t, ctx, leader, from, token)
	began := time.Now()
	got := fails()
	t.Logf("%d forged joins were refused in %s after the honest one", got, time.Since(began).Round(time.Millisecond))
	if n := read(); n > 0 {
		t.Errorf("of %d strangers 4 MiB of gossip each were read", n)
	}
	for _, conn := range silent {
		conn.Close()
	}
	stop()
	loading.Wait()
	if failed := l.Failures(); len(failed) > 0 || l.OK.Load() < 50 {
		t.Errorf("%d requests, %d failed: %+v", l.OK.Load(), len(failed), failed[:min(3, len(failed))])
	}
	if after := term(t, ctx, leader); after != before {
		t.Errorf("the leader was lost: term %d, then %d", before, after)
	}
	if lines := strings.Count(leader.Log(100_000), "connections refused"); lines < 1 || lines > 5 {
		t.Errorf("%d lines of refusals", lines)
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 100*time.Millisecond, func() error {
		out, err := leader.Ctl(ctx, "nodes")
		if err != nil || strings.Count(out, "alive") != 4 || strings.Contains(out, "intruder") {
			return fmt.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 100*time.Millisecond, func() error {
		if now := metric(t, leader, "go_goroutines"); now > goroutines+60 {
			return fmt.Errorf("%v goroutines, %v before", now, goroutines)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if now := metric(t, leader, "process_resident_memory_bytes"); now > memory+256<<20 {
		t.Errorf("%.0f MiB, %.0f before", now/(1<<20), memory/(1<<20))
	}
}

// hoard begins to send 4 MiB of gossip on each of 100 connections from an address, by one
// who has no key but knows the cluster's ID, which a node's certificate tells everybody. It
// returns a function that waits until all have been sent or refused, and says how many
// were sent to their end.
func hoard(t *testing.T, n *lab.Node, from net.IP, cluster string) func() int64 {
	t.Helper()
	const size = 4 << 20
	// The label, the kind of what is encrypted, and its length.
	head := append([]byte{244, byte(len(cluster))}, cluster...)
	what := append(binary.BigEndian.AppendUint32(append(head, 10), size), make([]byte, size)...)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", net.JoinHostPort(n.IP, "7482"))
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetWriteBuffer(64 << 10) // what the kernel keeps is not read
		wg.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Write(what); err == nil {
				sent.Add(1)
			}
		})
	}
	return func() int64 { wg.Wait(); return sent.Load() }
}

// waits: from the address that a flood came from the right token is refused unseen too.
func waits(t *testing.T, ctx context.Context, n *lab.Node, from net.IP, token string) {
	t.Helper()
	good, err := pki.ParseToken(strings.TrimSpace(token))
	if err != nil {
		t.Fatal(err)
	}
	flooder := api.NewClient(n.IP+":7480", dialsFrom(t, from))
	defer flooder.Close()
	_, err = flooder.Admit(ctx, api.AdmitRequest{Node: fsm.Node{ID: "n5"}, Secret: good.Secret[:], Now: time.Now().UnixMilli(), Protocol: 1})
	if !errors.Is(err, api.ErrTooMany) || !strings.Contains(err.Error(), "wait ") {
		t.Errorf("the right token of that address: %v", err)
	}
}

// dialsFrom makes connections from an address, with a certificate of one's own.
func dialsFrom(t *testing.T, from net.IP) *http.Transport {
	config := stranger(t)
	return &http.Transport{MaxIdleConnsPerHost: 1, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return (&tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}, Config: config}).DialContext(ctx, "tcp", addr)
	}}
}

// flood begins to send joins with forged tokens from an address, and returns a function
// that waits until all have been refused, or a minute is over, and says how many were.
// All but those of two windows are refused unseen.
func flood(t *testing.T, ctx context.Context, n *lab.Node, from net.IP, total int64) func() int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	var left, refused, seen atomic.Int64
	left.Store(total)
	var wg sync.WaitGroup
	for range 16 {
		transport := dialsFrom(t, from)
		wg.Go(func() {
			defer transport.CloseIdleConnections()
			c := api.NewClient(n.IP+":7480", transport)
			for i := 0; left.Add(-1) >= 0 && ctx.Err() == nil; i++ {
				q := api.AdmitRequest{Node: fsm.Node{ID: "intruder"}, Secret: bytes.Repeat([]byte{byte(i)}, 16), Now: time.Now().UnixMilli(), Protocol: 1}
				_, err := c.Admit(ctx, q)
				switch {
				case errors.Is(err, api.ErrTooMany):
					refused.Add(1)
				case errors.Is(err, fsm.ErrRefused):
					refused.Add(1)
					seen.Add(1)
				case err == nil:
					t.Error("a forged token was good")
				}
				if i%100 == 99 {
					transport.CloseIdleConnections() // and a new handshake
				}
			}
		})
	}
	return func() int64 {
		defer cancel()
		wg.Wait()
		if n := refused.Load(); n < total && ctx.Err() == nil {
			t.Errorf("%d of %d were refused", n, total)
		}
		if n := seen.Load(); n < 1 || n > 60 {
			t.Errorf("%d of them were looked at", n)
		}
		return refused.Load()
	}
}
