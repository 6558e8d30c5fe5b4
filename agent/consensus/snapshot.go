package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

const (
	snapshotFolder = "snapshots"
	metaFile       = "meta.json"
	stateFile      = "state.bin"
	tmpSuffix      = ".tmp"
	// keepSnapshots: the newest, and the one before it while the newest is young.
	keepSnapshots = 2
)

// snapshots is Raft's file store made safe: folders that only this user can
// read whatever the umask is, and no rests of snapshots that were cut off or
// that met a full disk.
type snapshots struct {
	*raft.FileSnapshotStore
	dir string
}

func openSnapshots(dir string, log *hclogger) (*snapshots, error) {
	s := &snapshots{dir: filepath.Join(dir, snapshotFolder)}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	if err := s.reap(); err != nil {
		return nil, err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, log.as("snapshot"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s.FileSnapshotStore = store
	return s, nil
}

// reap removes snapshots that were never finished. Only one is made at a time,
// and reap runs before it.
func (s *snapshots) reap() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("reap snapshots: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), tmpSuffix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("reap snapshots: %w", err)
		}
	}
	return nil
}

// Create begins a snapshot in a folder that only this user can read.
func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		// Its folder may be there with no room for more.
		for _, tmp := range s.unfinished(term, index) {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
		return nil, err
	}
	tmp := filepath.Join(s.dir, sink.ID()+tmpSuffix)
	for path, mode := range map[string]fs.FileMode{
		s.dir: 0o700, tmp: 0o700, filepath.Join(tmp, metaFile): 0o600, filepath.Join(tmp, stateFile): 0o600,
	} {
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(fmt.Errorf("close snapshot to others: %w", err), sink.Cancel(), os.RemoveAll(tmp))
		}
	}
	return &sinkOf{SnapshotSink: sink, tmp: tmp}, nil
}

func (s *snapshots) unfinished(term, index uint64) (paths []string) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil // the next start reaps them
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fmt.Sprintf("%d-%d-", term, index)) && strings.HasSuffix(e.Name(), tmpSuffix) {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	return paths
}

// newest returns the newest snapshot, or nil.
func (s *snapshots) newest() (*raft.SnapshotMeta, error) {
	all, err := s.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all[0], nil
}

// sinkOf removes what a snapshot that fails has written: on a full disk the
// rests would take the very room that is missing.
type sinkOf struct {
	raft.SnapshotSink
	tmp string
}

func (s *sinkOf) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return errors.Join(err, s.remove())
	}
	return nil
}

func (s *sinkOf) Cancel() error {
	err := s.SnapshotSink.Cancel()
	return errors.Join(err, s.remove())
}

// remove also empties the file: where it cannot be flushed Raft leaves it open
// until it is collected, and its room would be taken until then.
func (s *sinkOf) remove() error {
	err := os.Truncate(filepath.Join(s.tmp, stateFile), 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.tmp))
}

// verifySnapshots reads every finished snapshot below dir, compares checksums
// and returns the newest. It writes nothing. (Raft itself skips what it cannot
// read and takes an older one, whose next entries may be gone.)
func verifySnapshots(dir string) (*raft.SnapshotMeta, error) {
	dir = filepath.Join(dir, snapshotFolder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshots: %w", err)
	}
	var newest *raft.SnapshotMeta
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), tmpSuffix) {
			continue
		}
		meta, err := verifySnapshot(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if newest == nil || meta.Term > newest.Term || (meta.Term == newest.Term && meta.Index > newest.Index) {
			newest = meta
		}
	}
	return newest, nil
}

func verifySnapshot(dir string) (*raft.SnapshotMeta, error) {
	path := filepath.Join(dir, metaFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, damaged(path, "%v", err)
	}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, damaged(path, "%v", err)
	}
	if meta.ID != filepath.Base(dir) || meta.Index == 0 || meta.Term == 0 || meta.Version != 1 {
		return nil, damaged(path, "it describes snapshot %q of index %d, term %d, version %d", meta.ID, meta.Index, meta.Term, meta.Version)
	}
	path = filepath.Join(dir, stateFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, damaged(path, "%v", err)
	}
	defer f.Close()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	if _, err := io.Copy(sum, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !bytes.Equal(sum.Sum(nil), meta.CRC) {
		return nil, damaged(path, "its checksum is wrong")
	}
	return &meta.SnapshotMeta, nil
}

// restoreInto fills m from a snapshot that has been verified.
func restoreInto(m *machine, dir string, meta *raft.SnapshotMeta) error {
	path := filepath.Join(dir, snapshotFolder, meta.ID, stateFile)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	defer f.Close()
	if err := m.load(f); err != nil {
		return damaged(path, "%v", err)
	}
	return nil
}
