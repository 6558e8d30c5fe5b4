package agent

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

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
