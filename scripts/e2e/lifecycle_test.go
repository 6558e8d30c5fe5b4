package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestSIGTERM: leadership is handed over, the request in flight ends, the exit is 0
// within 10 s, and the containers go on running.
func TestSIGTERM(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 10))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := leader.PS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ids := containerIDs(t, ctx, rowsOn(rows, leader.ID))
	answer := slowRequest(t, leader)
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- leader.Stop(10 * time.Second) }()
	next, err := c.Leader(within(t, ctx, 5*time.Second))
	for err == nil && next == leader && time.Since(began) < 5*time.Second {
		next, err = c.Leader(within(t, ctx, 5*time.Second))
	}
	if err != nil || next == leader {
		t.Fatalf("leadership was not handed over: %v, %v", next, err)
	}
	if err := answer(); err != nil {
		t.Errorf("the request in flight failed: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("exit: %v", err)
	}
	t.Logf("stopped after %s", time.Since(began).Round(time.Millisecond))
	if got := containerIDs(t, ctx, rowsOn(rows, leader.ID)); strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("containers are %v, were %v", got, ids)
	}
}

// slowRequest posts a body of which the rest is sent only when the returned
// function is called; that returns whether the answer came.
func slowRequest(t *testing.T, n *lab.Node) func() error {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(n.IP, lab.ProxyPort()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	body := `["slow"]`
	fmt.Fprintf(conn, "POST /api/v1/categories HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n.IP, len(body), body[:4])
	// A connection that the node has not taken yet would be refused with its listener.
	err = lab.Until(within(t, t.Context(), 20*time.Second), 5*time.Millisecond, func() error {
		text, err := metrics(n)
		if err == nil && !strings.Contains(text, "\norch_proxy_in_flight{") {
			err = errors.New("the request is not in flight")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() error {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte(body[4:])); err != nil {
			return err
		}
		head := make([]byte, 12)
		if _, err := conn.Read(head); err != nil {
			return err
		}
		if !strings.HasPrefix(string(head), "HTTP/1.1 201") {
			return fmt.Errorf("answer %q", head)
		}
		return nil
	}
}

// TestServesWithoutQuorum: two of three nodes are lost; the third goes on, by local
// turns, and says so; commands that need a leader say that there is none within 5 s.
func TestServesWithoutQuorum(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 3))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	last := c.Nodes[2]
	c.Nodes[0].Kill()
	c.Nodes[1].Kill()
	err := lab.Until(within(t, ctx, 15*time.Second), 50*time.Millisecond, func() error {
		s, err := last.Status(ctx)
		if err != nil {
			return err
		}
		if s.Quorum || s.Leader != "" {
			return fmt.Errorf("status says leader %q, quorum %v", s.Leader, s.Quorum)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mode := ""
	for range 600 {
		resp, err := c.HTTP.Get(last.URL("/api/v1/categories"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("answer %s without a quorum", resp.Status)
		}
		mode = resp.Header.Get("X-Orch-Turn")
	}
	if !strings.HasSuffix(mode, "local") {
		t.Errorf("X-Orch-Turn %q, want a local turn", mode)
	}
	began := time.Now()
	if out, err := last.Ctl(ctx, "scale", "acts", "3"); err == nil || time.Since(began) > 5*time.Second || !strings.Contains(strings.ToLower(out), "leader") {
		t.Errorf("scale without a leader took %s: %v, %s", time.Since(began), err, out)
	}
	// After a restart without a quorum it serves from its last view.
	last.Kill()
	if err := last.Start(ctx); err != nil {
		t.Fatal(err)
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 50*time.Millisecond, func() error {
		resp, err := c.HTTP.Get(last.URL("/api/v1/categories"))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			return fmt.Errorf("answer %s", resp.Status)
		}
		return nil
	})
	if err != nil {
		t.Errorf("restarted without a quorum: %v", err)
	}
}

// TestSecondNodeWithOneIDOrAddress: refused, with the reason.
func TestSecondNodeWithOneIDOrAddress(t *testing.T) {
	c, ctx := cluster(t, 2, "")
	stranger := lab.New(programs, filepath.Join(c.Dir, "x"), 1).Nodes[0]
	t.Cleanup(stranger.Kill)
	stranger.ID = c.Nodes[1].ID
	if err := stranger.Start(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := stranger.Join(ctx, c.Nodes[0])
	if err == nil || !strings.Contains(out, c.Nodes[1].ID) {
		t.Errorf("a second %s joined: %v, %s", stranger.ID, err, out)
	}
	t.Logf("one ID: %s", strings.TrimSpace(out))
	if err := stranger.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	n := c.Nodes[1]
	twin := lab.New(programs, filepath.Join(c.Dir, "y"), 1).Nodes[0]
	twin.ID, twin.IP = "n9", n.IP
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = twin.Start(ctx)
	twin.Kill()
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second node on %s started: %v", n.IP, err)
	}
}

// TestForeignOrBrokenFolder: orchd does not start, names the file, touches nothing.
func TestForeignOrBrokenFolder(t *testing.T) {
	c, ctx := cluster(t, 1, "")
	n := c.Nodes[0]
	if err := n.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"raft.db": "not a database, but long enough to be looked at twice", "node.json": "{"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(n.Dir, "data", name)
			was, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			err = n.Start(ctx)
			n.Kill()
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("started, or did not name %s: %v", name, err)
			}
			if now, _ := os.ReadFile(path); string(now) != content {
				t.Errorf("%s was changed", name)
			}
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	id := n.ID
	n.ID = "other"
	err := n.Start(ctx)
	n.Kill()
	n.ID = id
	if err == nil || !strings.Contains(err.Error(), "node.json") {
		t.Errorf("started in the folder of %s: %v", id, err)
	}
	if err := n.Start(ctx); err != nil {
		t.Errorf("with everything put back: %v", err)
	}
}

// TestInternalsAreClosed unless the spec opens them.
func TestInternalsAreClosed(t *testing.T) {
	c, ctx := cluster(t, 1, strings.Replace(spec(1, 1), "expose_internal: true\n", "", 1))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	for _, path := range []string{"/api/v1/_crash", "/api/v1/%5Fcrash", "//api/v1/_crash", "/api/x/../v1/_crash"} {
		resp, err := c.HTTP.Post(c.Nodes[0].URL(path), "application/json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
	if rows, err := c.Nodes[0].PS(ctx); err != nil || len(rows) != 1 || rows[0].Generation != 1 || !rows[0].Status {
		t.Errorf("rows %+v, %v", rows, err)
	}
}
