package agent

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// FuzzJoin: no request of a stranger is good without the token's secret, whatever else
// stands in it, and none is a panic.
func FuzzJoin(f *testing.F) {
	store := fsm.NewStore()
	sealKey := pki.NewSealKey()
	begin, err := newCluster(sealKey, time.Now().UnixMilli(), "root on n1")
	if err != nil {
		f.Fatal(err)
	}
	data, err := fsm.Encode(time.Now().UnixMilli(), begin)
	if err != nil {
		f.Fatal(err)
	}
	store.Apply(1, 1, data)
	n := &Node{cfg: Config{NodeID: "n1"}, store: store, clock: newClock(time.Now()), member: identity{ClusterID: begin.ClusterID}}
	key, err := pki.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := pki.Request(key)
	if err != nil {
		f.Fatal(err)
	}
	digest, err := pki.KeyDigest(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []api.AdmitRequest{
		{Node: fsm.Node{ID: "n2", RaftAddr: "10.0.0.2:1"}, Secret: bytes.Repeat([]byte{1}, 16), Request: request, Now: time.Now().UnixMilli(), Protocol: Protocol},
		{Node: fsm.Node{ID: "n1", Key: digest}, Request: request[:20]},
	} {
		body, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q api.AdmitRequest
		if json.Unmarshal(body, &q) != nil {
			return
		}
		for _, shown := range []string{"", digest, q.Node.Key} {
			if _, err := n.mayJoin(q, shown); err == nil && pki.SecretDigest(q.Secret) != begin.Token.Digest {
				t.Fatalf("%s is let in", body)
			}
		}
	})
}

// FuzzKeyFiles: what is no key is refused, and what is accepted is written as it was read.
func FuzzKeyFiles(f *testing.F) {
	f.Add([]byte(hex.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n"))
	f.Add([]byte("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n"))
	f.Add([]byte("=\n\n"))
	dir := f.TempDir()
	folder, err := openFolder(filepath.Join(dir, "d"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { folder.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{clusterKeyFile, gossipFile, keyFile, certFile} {
			if err := os.WriteFile(filepath.Join(folder.dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if key, err := folder.clusterKey(false); err == nil && len(key) != 32 {
			t.Fatalf("a key of %d bytes", len(key))
		}
		if keys, err := folder.gossipKeys(); err == nil {
			if err := folder.saveGossipKeys(keys); err != nil {
				t.Fatal(err)
			}
			again, err := folder.gossipKeys()
			if err != nil || len(again) != len(keys) {
				t.Fatalf("%d keys, then %d: %v", len(keys), len(again), err)
			}
		}
		folder.nodeKey()
		folder.credentials("c")
	})
}
