package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/fsm"
)

func open(t *testing.T, dir string) *folder {
	t.Helper()
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFolderRefusals(t *testing.T) {
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(loose); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("a folder that others can read: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	f := open(t, dir)
	if _, err := openFolder(dir); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "another orchd") {
		t.Errorf("a folder in use: %v", err)
	}
	if _, ok, err := f.identity("n1"); ok || err != nil {
		t.Errorf("a new folder has an identity: %v, %v", ok, err)
	}
	if err := f.saveIdentity(identity{ClusterID: "c", NodeID: "n1"}); err != nil {
		t.Fatal(err)
	}
	if id, ok, err := f.identity("n1"); !ok || err != nil || id.ClusterID != "c" {
		t.Errorf("identity %+v, %v, %v", id, ok, err)
	}
	if _, _, err := f.identity("n2"); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "--node-id n1") {
		t.Errorf("another node's folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.identity("n1"); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), identityFile) {
		t.Errorf("a broken identity: %v", err)
	}
}

// TestFolderOfAnotherUser is refused, and so are keys in it: their owner may put others
// in their place.
func TestFolderOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root may give files away")
		}
		t.Skip("only root may give files away")
	}
	dir := filepath.Join(t.TempDir(), "data")
	f := open(t, dir)
	if _, err := f.clusterKey(true); err != nil {
		t.Fatal(err)
	}
	f.Close()
	key := filepath.Join(dir, clusterKeyFile)
	owned := func(path string, uid int) {
		t.Helper()
		if err := os.Chown(path, uid, 0); err != nil {
			t.Fatal(err)
		}
	}
	owned(key, 65534)
	f = open(t, dir)
	if err := f.checkSecrets(); !errors.Is(err, ErrFolder) || !strings.Contains(fmt.Sprint(err), "chown 0 "+key) {
		t.Errorf("a key of another user: %v", err)
	}
	f.Close()
	owned(key, 0)
	owned(dir, 65534)
	if _, err := openFolder(dir); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "chown 0 "+dir) {
		t.Errorf("a folder of another user: %v", err)
	}
	owned(dir, 0)
	if err := open(t, dir).checkSecrets(); err != nil {
		t.Error(err)
	}
}

func TestLastViewOutlivesTheDaemon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f := open(t, dir)
	if v, err := f.loadView(); v != nil || err != nil {
		t.Fatalf("a new folder has a view: %v, %v", v, err)
	}
	store := fsm.NewStore()
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- f.keepView(ctx, store, slog.New(slog.DiscardHandler)) }()
	apply(t, store, 1, fsm.PutNode{Node: fsm.Node{ID: "n1", RaftAddr: "r", APIAddr: "a"}})
	deadline := time.Now().Add(10 * time.Second)
	for {
		if v, err := f.loadView(); err == nil && v != nil && len(v.Nodes) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the view was not saved")
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(filepath.Join(dir, viewFile), []byte("orchsnp1garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := f.loadView(); v != nil || !errors.Is(err, fsm.ErrSnapshot) {
		t.Errorf("a broken view: %v, %v", v, err)
	}
}

func TestSetAsideLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f := open(t, dir)
	for life := 1; life <= 2; life++ { // it joins again, and leaves again
		if err := f.saveIdentity(identity{ClusterID: "0123456789", NodeID: "n1"}); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "snapshots", "s"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := f.setAside("0123456789"); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := f.identity("n1"); ok || err != nil {
			t.Errorf("still a member: %v, %v", ok, err)
		}
		if kept, err := filepath.Glob(filepath.Join(dir, "left-01234567-*", identityFile)); err != nil || len(kept) != life {
			t.Errorf("after leaving %d times: %v, %v", life, kept, err)
		}
	}
}

func apply(t *testing.T, s *fsm.Store, index uint64, c fsm.Command) any {
	t.Helper()
	data, err := fsm.Encode(int64(index)*1000, c)
	if err != nil {
		t.Fatal(err)
	}
	result := s.Apply(index, 1, data)
	if err, ok := result.(error); ok {
		t.Fatalf("%T: %v", c, err)
	}
	return result
}
