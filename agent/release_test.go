package agent

import (
	"bytes"
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"orch/agent/consensus"
	"orch/fsm"
)

var update = flag.Bool("update", false, "write the folder of this release anew; never once it is released")

// released is the data folder of a node of the first release: a snapshot, entries of the
// log behind it, and the state that both together make.
const released = "testdata/release-1"

// TestReadsTheFolderOfARelease: what an earlier release has written is read, and means
// the same.
func TestReadsTheFolderOfARelease(t *testing.T) {
	if *update {
		writeRelease(t)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "raft"), os.DirFS(released)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // git keeps no modes
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(released, "state.golden"))
	if err != nil {
		t.Fatal(err)
	}
	store := fsm.NewStore()
	node := openLog(t, filepath.Join(dir, "raft"), store)
	deadline := time.After(20 * time.Second)
	for store.View().Applied < wantIndex(t, want) {
		if err := store.Fatal(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatalf("only index %d of %d was read", store.View().Applied, wantIndex(t, want))
		case <-time.After(10 * time.Millisecond):
		}
	}
	closeLog(t, node)
	if got := stateBytes(t, store.View()); !bytes.Equal(got, want) {
		t.Errorf("the state has changed its meaning:\n%s\nwas\n%s", got, want)
	}
}

func openLog(t *testing.T, dir string, store *fsm.Store) *consensus.Node {
	t.Helper()
	timings, err := consensus.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	timings.SnapshotThreshold, timings.SnapshotInterval, timings.TrailingLogs = 6, 5*time.Millisecond, 2
	n, err := consensus.Open(consensus.Config{ID: "n1", Addr: "127.0.0.1:0", Dir: dir, Timings: timings}, store)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func closeLog(t *testing.T, n *consensus.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
}

func stateBytes(t *testing.T, v *fsm.State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := fsm.WriteSnapshot(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wantIndex(t *testing.T, golden []byte) uint64 {
	t.Helper()
	v, err := fsm.ReadSnapshot(bytes.NewReader(golden))
	if err != nil {
		t.Fatal(err)
	}
	return v.Applied
}

// writeRelease makes the folder: enough commands for a snapshot, and some behind it.
func writeRelease(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	store := fsm.NewStore()
	n := openLog(t, dir, store)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	<-n.Leadership()
	spec := fsm.Spec{Name: "acts", Image: "acts:1", Routes: []string{"/"}, Env: map[string]string{"A": "1"}, SecretEnv: map[string]string{"B": "sealed:01"}}.WithDefaults()
	node := func(id string) fsm.Node {
		return fsm.Node{ID: id, Addr: "10.0.0." + id[1:], APIAddr: "10.0.0." + id[1:] + ":7480", RaftAddr: "10.0.0." + id[1:] + ":7481", GossipAddr: "10.0.0." + id[1:] + ":7482", ProxyAddr: "10.0.0." + id[1:] + ":80", Version: "v1", Key: "k" + id}
	}
	commands := []fsm.Command{
		fsm.InitCluster{ClusterID: "0123456789abcdef0123456789abcdef", Authority: &fsm.Authority{Digest: "ca1", Cert: []byte{1}, Key: []byte{2}}, Gossip: &fsm.GossipKey{ID: "g1", Key: []byte{3}},
			Token: &fsm.JoinToken{Digest: "t1", Secret: []byte{4}, Expires: 2_000_000, Uses: 2}, By: "root on n1"},
		fsm.PutNode{Node: node("n1")}, fsm.Admit{Node: node("n2"), Token: "t1"}, fsm.Grant{Person: fsm.Person{Name: "bob", Role: fsm.RoleRead, Key: "kb", By: "root on n1"}},
		fsm.PutService{Spec: spec}, fsm.ScaleByHand{Service: "acts", Count: 2}, fsm.Place{Service: "acts", Number: 1, Node: "n1", Port: 8000},
		fsm.Place{Service: "acts", Number: 2, Node: "n2", Port: 8001}, fsm.Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: fsm.Running},
		fsm.Note{ID: "x", What: "noted", Reason: "a word"}, fsm.Observe{Node: "n2", Service: "acts", Number: 2, Generation: 1, Phase: fsm.Running},
		fsm.ScaleByHand{Service: "acts"},
	}
	for i, c := range commands {
		data, err := fsm.Encode(int64(1_000_000+i), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.Propose(ctx, data); err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		if i == len(commands)-3 { // a snapshot is made between, the rest stays in the log
			for {
				if found, _ := filepath.Glob(filepath.Join(dir, "snapshots", "*", "meta.json")); len(found) > 0 {
					break
				}
				if ctx.Err() != nil {
					t.Fatal("no snapshot was made")
				}
			}
		}
	}
	golden := stateBytes(t, store.View())
	closeLog(t, n)
	if err := os.RemoveAll(released); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(released, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(released, "state.golden"), golden, 0o644); err != nil {
		t.Fatal(err)
	}
}
