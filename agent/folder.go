package agent

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"orch/agent/pki"
	"orch/fsm"
)

// ErrFolder means that the data folder can not be this node's. Nothing in it
// has been touched.
var ErrFolder = errors.New("data folder refused")

// identity is who this node is in which cluster: DataDir/node.json, written
// once, when it makes or joins a cluster.
type identity struct {
	ClusterID string     `json:"cluster_id"`
	NodeID    string     `json:"node_id"`
	Peers     []fsm.Node `json:"peers"` // those known when it joined: where to ask first
	// Epoch is the number of the newest recovery of the cluster that this node is of: what
	// is of an older one has been left behind.
	Epoch uint64 `json:"epoch,omitempty"`
	// Recovering is the number of a recovery that this node has begun, and that counts only
	// if Raft's disk says that it has come to pass. A file without it has none under way.
	Recovering uint64 `json:"recovering,omitempty"`
}

// folder is the data folder of one node, locked against a second daemon.
type folder struct {
	dir  string
	lock *os.File
}

const (
	identityFile = "node.json"
	viewFile     = "view.snap"
	lockFile     = "lock"
)

// openFolder makes or opens dir and locks it. It refuses what others can read or own.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w; choose another with --data-dir", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o and others can read it: chmod 0700 %s", ErrFolder, dir, info.Mode().Perm(), dir)
	}
	if err := pki.CheckOwner(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: %s is in use by another orchd: stop that one, or choose another folder with --data-dir", ErrFolder, lock.Name())
	}
	return &folder{dir: dir, lock: lock}, nil
}

func (f *folder) Close() error { return f.lock.Close() }

// identity reads node.json; ok is false where this node is in no cluster yet. An empty
// nodeID is whichever node the folder is of.
func (f *folder) identity(nodeID string) (id identity, ok bool, err error) {
	path := filepath.Join(f.dir, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, nil
	}
	if err != nil {
		return id, false, fmt.Errorf("read identity: %w", err)
	}
	if err := json.Unmarshal(b, &id); err != nil || id.ClusterID == "" || id.NodeID == "" {
		return id, false, fmt.Errorf("%w: %s is not an identity (%v): restore it from a backup, or move the folder away and join anew", ErrFolder, path, err)
	}
	if nodeID != "" && id.NodeID != nodeID {
		return id, false, fmt.Errorf("%w: %s belongs to node %q, this is node %q: start with --node-id %s, or use another --data-dir", ErrFolder, path, id.NodeID, nodeID, id.NodeID)
	}
	return id, true, nil
}

func (f *folder) saveIdentity(id identity) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return f.replace(identityFile, append(b, '\n'))
}

// replace writes a file as a whole or not at all, also when the power fails.
func (f *folder) replace(name string, content []byte) (err error) {
	path := filepath.Join(f.dir, name)
	tmp, err := os.CreateTemp(f.dir, name+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = tmp.Write(content); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// newClusterID returns 16 random bytes in hex.
func newClusterID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
