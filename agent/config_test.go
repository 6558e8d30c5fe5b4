package agent

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigNamesEveryFault(t *testing.T) {
	good := Default()
	good.NodeID = "n1"
	if err := good.Complete().Validate(); err != nil {
		t.Fatalf("the default: %v", err)
	}
	for flag, edit := range map[string]func(*Config){
		"node-id":       func(c *Config) { c.NodeID = "N 1" },
		"addr":          func(c *Config) { c.Addr = "0.0.0.0" },
		"api-addr":      func(c *Config) { c.APIAddr = "0.0.0.0:7480" },
		"raft-addr":     func(c *Config) { c.RaftAddr = "127.0.0.1" },
		"gossip-addr":   func(c *Config) { c.GossipAddr = "localhost:7482" },
		"metrics-addr":  func(c *Config) { c.MetricsAddr = "10.0.0.1:7483" },
		"socket":        func(c *Config) { c.Socket = strings.Repeat("s", 101) },
		"engine":        func(c *Config) { c.Engine = "podman" },
		"process-image": func(c *Config) { c.Engine = "process" },
		"firewall":      func(c *Config) { c.Firewall = "on" },
		"profile":       func(c *Config) { c.Profile = "moon" },
		"data-dir":      func(c *Config) { c.DataDir = "" },
	} {
		c := good.Complete()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--"+flag+" ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	bad := good
	bad.NodeID, bad.Engine = "?", "?"
	if err := bad.Complete().Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults: %v", err)
	}
}

func TestSocketOfAKilledDaemonIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "another orchd") {
		t.Errorf("a socket that answers: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := listenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestLogLinesStayWhole(t *testing.T) {
	var out bytes.Buffer
	lines := &lineWriter{w: &out}
	a, b := lines.prefixed("acts/1 | "), lines.prefixed("acts/2 | ")
	for _, w := range []struct {
		to   *prefixWriter
		text string
	}{{a, "one\ntw"}, {b, "three\n"}, {a, "o\n"}, {b, "end"}} {
		if _, err := w.to.Write([]byte(w.text)); err != nil {
			t.Fatal(err)
		}
	}
	a.flush()
	b.flush()
	if got, want := out.String(), "acts/1 | one\nacts/2 | three\nacts/1 | two\nacts/2 | end\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
