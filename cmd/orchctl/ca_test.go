package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent"
	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// realNode runs a node that makes a cluster of its own, and returns its configuration and
// the token of the cluster.
func realNode(t *testing.T) (agent.Config, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "orch") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := agent.Default()
	c.NodeID, c.Addr, c.DataDir, c.Socket = "n1", fmt.Sprintf("127.19.%d.1", 1+os.Getpid()%250), filepath.Join(dir, "data"), filepath.Join(dir, "s")
	c.ProxyAddr, c.MetricsAddr = c.Addr+":8480", c.Addr+":7483"
	c.Engine, c.ProcessImages, c.Firewall, c.Version = "process", map[string]string{"none": "/bin/true"}, "off", "v1"
	c.Registry, c.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	c = c.Complete()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, c) }()
	node := api.NewClient(c.Socket, nil)
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		node.Close()
	})
	until(t, "the node runs", func() error { return node.Healthy(t.Context()) })
	a, err := node.Init(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, a.Token.Token
}

// until waits for a condition, long enough for a busy machine.
func until(t *testing.T, what string, is func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// admitSilent has the cluster admit a node that never answers, which holds up every
// exchange of keys.
func admitSilent(t *testing.T, addr, token string) {
	t.Helper()
	secret, err := pki.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.Request(key)
	if err != nil {
		t.Fatal(err)
	}
	tls, err := pki.Joining(key, secret.CA, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := pki.KeyDigest(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	conns := pki.NewConns()
	c := api.NewClient(addr, &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return conns.Dial(ctx, addr, tls)
	}})
	defer c.Close()
	const ip = "127.19.255.9"
	silent := fsm.Node{ID: "n9", Addr: ip, APIAddr: ip + ":1", RaftAddr: ip + ":2", GossipAddr: ip + ":3", ProxyAddr: ip + ":4", Version: "v1", Key: digest}
	if _, err := c.Admit(t.Context(), api.AdmitRequest{Node: silent, Secret: secret.Secret[:], Request: request, Now: time.Now().UnixMilli(), Protocol: agent.Protocol}); err != nil {
		t.Fatal(err)
	}
}

// TestCARotationKeepsWhoDrivesIt, on a real node: who rotates the CA from a context goes on
// by it without a gap, and so do bundles that are made from then on, also where a node
// that does not answer holds the exchange up. All others end, and are named.
func TestCARotationKeepsWhoDrivesIt(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("ORCH_ADDR", "")
	node, token := realNode(t)
	as := func(home string, args ...string) (string, error) {
		t.Helper()
		t.Setenv("XDG_CONFIG_HOME", home)
		return ctl(t, append([]string{"--context", "it"}, args...)...)
	}
	can := func(home string, args ...string) string {
		t.Helper()
		out, err := as(home, args...)
		if err != nil {
			t.Fatalf("orchctl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	trust := func(home string) (x api.Trust) {
		t.Helper()
		if err := json.Unmarshal([]byte(can(home, "trust", "-o", "json")), &x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	stored := func(home string) (*bundle, int) { // and how many CAs it trusts
		t.Helper()
		t.Setenv("XDG_CONFIG_HOME", home)
		b, err := loadContext("it")
		if err != nil {
			t.Fatal(err)
		}
		cas, err := pki.DecodeCerts(b.Authorities)
		if err != nil {
			t.Fatal(err)
		}
		return b, len(cas)
	}
	ann, laptop, cat, bob := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	must(t, "--addr", node.Socket, "grant", "ann", "--role", "admin")
	must(t, "--addr", node.Socket, "grant", "cat", "--role", "read")
	can(ann, "login", "ann.bundle", "--name", "it")
	can(laptop, "login", "ann.bundle", "--name", "it")
	can(cat, "login", "cat.bundle", "--name", "it")
	admitSilent(t, node.APIAddr, token)
	before, _ := stored(ann)

	out := can(ann, "ca", "rotate")
	for want, there := range map[string]bool{"Context it has a certificate of the new CA": true, "stop as soon as it signs": true, "orchctl grant cat --role read": true, "orchctl grant ann": false} {
		if strings.Contains(out, want) != there {
			t.Errorf("%q: %v, want %v, in\n%s", want, !there, there, out)
		}
	}
	if x := trust(ann); len(x.Authorities) != 2 || !x.Authorities[0].Signs || !strings.Contains(x.Pending, "node n9") {
		t.Fatalf("%+v", x)
	}
	if _, n := stored(ann); n != 2 {
		t.Errorf("%d CAs while the old one signs", n)
	}
	if _, err := as(ann, "ca", "rotate"); err == nil || !strings.Contains(err.Error(), "under way") || !strings.Contains(err.Error(), "Context it has a certificate") {
		t.Errorf("twice: %v", err)
	}
	can(ann, "grant", "bob", "--role", "read")
	can(bob, "login", "bob.bundle", "--name", "it")
	can(bob, "ps")
	can(laptop, "ps")
	can(ann, "remove", "n9", "--force")
	until(t, "one CA is left", func() error {
		can(bob, "--addr", node.APIAddr, "ps")
		if x := trust(ann); len(x.Authorities) != 1 { // it fails the test where it is let in no more
			return errors.New(x.Pending)
		}
		return nil
	})
	after, n := stored(ann)
	if n != 1 {
		t.Errorf("the old CA is trusted by the context: %d CAs", n)
	}
	if longer := after.Until.Sub(before.Until); longer > time.Minute || longer < -time.Minute {
		t.Errorf("the grant ends %s later", longer)
	}
	can(bob, "ps")
	if _, n := stored(bob); n != 1 {
		t.Errorf("the old CA is trusted by a new bundle: %d CAs", n)
	}
	for home, line := range map[string]string{laptop: "orchctl grant ann --role admin", cat: "orchctl grant cat --role read"} {
		if _, err := as(home, "ps"); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("a bundle of the old CA: %v, want %q", err, line)
		}
	}
}
