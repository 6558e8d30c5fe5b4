package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"orch/fsm"
)

// purged is what 'orchd purge --data-dir DIR --engine process' is told. DIR is that of n1,
// whose table says that it has that address, or which has no table where addr is empty.
func purged(t *testing.T, addr string) Config {
	t.Helper()
	cfg := Default()
	cfg.NodeID, cfg.DataDir, cfg.Engine = "", filepath.Join(t.TempDir(), "data"), "process"
	cfg.ProcessImages = map[string]string{"acts": "/bin/true"}
	f := open(t, cfg.DataDir)
	defer f.Close()
	err := f.saveIdentity(identity{ClusterID: "c", NodeID: "n1"})
	if addr != "" {
		store := fsm.NewStore()
		apply(t, store, 1, fsm.PutNode{Node: fsm.Node{ID: "n1", Addr: addr, RaftAddr: "r", APIAddr: "a"}})
		err = errors.Join(err, f.saveView(store.View()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Complete()
}

// TestPurge asks for nothing but what the command has: no node ID, no logger, no registry.
func TestPurge(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	cfg := purged(t, "127.0.0.1")
	if node, n, err := Purge(t.Context(), cfg); node != "n1" || n != 0 || err != nil {
		t.Errorf("%q, %d, %v", node, n, err)
	}
	cfg.NodeID = "n2"
	if _, _, err := Purge(t.Context(), cfg); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "--node-id n1") {
		t.Errorf("as another node: %v", err)
	}
	cfg.NodeID = ""
	runs := open(t, cfg.DataDir)
	for cluster, again := range map[string]bool{"c": true, "another": false} {
		aside := cfg
		aside.DataDir = filepath.Join(cfg.DataDir, "left-"+cluster)
		f := open(t, aside.DataDir)
		err := f.saveIdentity(identity{ClusterID: cluster, NodeID: "n1"})
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Purge(t.Context(), aside); again != errors.Is(err, ErrFolder) || again == (err == nil) {
			t.Errorf("set aside, and in cluster c again: of %s: %v", cluster, err)
		}
	}
	runs.Close()
	stopped := cfg
	stopped.DataDir = filepath.Join(cfg.DataDir, "left-c")
	if _, _, err := Purge(t.Context(), stopped); err != nil {
		t.Errorf("set aside, and no daemon runs: %v", err)
	}
	cfg.DataDir = filepath.Join(cfg.DataDir, "none")
	if node, n, err := Purge(t.Context(), cfg); node != "" || n != 0 || err != nil {
		t.Errorf("an empty folder: %q, %d, %v", node, n, err)
	}
}

// TestPurgeThatCanNotLookSaysSo where the node's last address may have had rules, and is
// quiet where it can have had none: on loopback, or with a daemon that was not root.
func TestPurgeThatCanNotLookSaysSo(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "iptables-save"), []byte("#!/bin/sh\necho denied >&2; exit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	for addr, loud := range map[string]bool{"127.0.0.2": false, "10.77.0.1": os.Geteuid() == 0} {
		if _, _, err := Purge(t.Context(), purged(t, addr)); (err != nil) != loud || loud && !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestPurgeTakesTheRulesAway that the daemon has made for an address that purge is not told.
func TestPurgeTakesTheRulesAway(t *testing.T) {
	need := func(err error) {
		if err == nil {
			return
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("namespaces and iptables are needed: %v", err)
		}
		t.Skipf("needs root and iptables: %v", err)
	}
	if os.Geteuid() != 0 {
		need(errors.New("not root"))
	}
	_, err := exec.LookPath("iptables-save")
	need(err)
	const addr = "10.77.0.1"
	cfg := purged(t, "")
	// All in a network namespace of this thread's, which ends with it.
	var unshared, failed error
	var before, after []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unshared = unix.Unshare(unix.CLONE_NEWNET); unshared != nil {
			return
		}
		if failed = guardOnce(t.Context(), Config{NodeID: "n1", Addr: addr, Logger: slog.New(slog.DiscardHandler)}, "c"); failed != nil {
			return
		}
		if before, failed = exec.Command("iptables-save").Output(); failed != nil {
			return
		}
		if _, _, failed = Purge(t.Context(), cfg); failed != nil {
			return
		}
		after, failed = exec.Command("iptables-save").Output()
	}()
	<-done
	need(unshared)
	if failed != nil {
		t.Fatal(failed)
	}
	if !strings.Contains(string(before), "ORCHD-") || strings.Contains(string(after), "ORCHD-") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// guardOnce makes the rules of a node as its daemon does, and ends as that does.
func guardOnce(ctx context.Context, cfg Config, cluster string) error {
	fw, err := newFirewall(cfg, cluster, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	poke, looks := make(chan struct{}, 1), 0
	poke <- struct{}{}
	err = fw.Run(ctx, func() []netip.Addr {
		if looks++; looks > 1 { // the poke comes after the first look
			cancel()
		}
		return nil
	}, poke)
	if s := fw.State(); s.Reason != "" {
		return errors.New(s.Reason)
	}
	return err
}
