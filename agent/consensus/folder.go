package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

const (
	dbFile = "raft.db"
	// lockTimeout bounds the wait for another daemon's lock on raft.db; bbolt
	// waits for ever by default.
	lockTimeout = time.Second
)

func damaged(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s; restore the folder from a backup, or move it away and join anew",
		ErrCorrupt, path, fmt.Sprintf(format, args...))
}

func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true, // one page less to write for each append; rebuilt at open
		FreelistType:   bbolt.FreelistMapType,
		ReadOnly:       readOnly,
	}
}

// openError tells a held lock and a foreign file from other errors of bbolt.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s is open in another orchd; stop that one, or choose another folder with --data-dir", ErrInUse, path)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrVersionMismatch), errors.Is(err, bbolterrors.ErrChecksum):
		return damaged(path, "%v", err)
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
}

// createDB makes an empty raft.db as a whole or not at all, so that an empty or
// half one is never the rest of a start that was cut off.
func createDB(dir string) error {
	path := filepath.Join(dir, dbFile)
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create %s: %w", path, err)
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: tmp, BoltOptions: boltOptions(false)})
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// openDB opens a raft.db that verifyDB has passed.
func openDB(dir string) (*raftboltdb.BoltStore, error) {
	path := filepath.Join(dir, dbFile)
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false)})
	if err != nil {
		return nil, openError(path, err)
	}
	return db, nil
}

// verifyDB reads the whole of raft.db and says what is wrong with it, or how many
// bytes of entries it holds. It writes nothing. Opening a damaged file for writing would touch it, and can end the
// process: bbolt panics on goroutines of its own, and a page beyond the end of a
// truncated file is a fault of memory.
func verifyDB(dir string, snap *raft.SnapshotMeta) (live int64, err error) {
	path := filepath.Join(dir, dbFile)
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	if info.Size() == 0 {
		return 0, damaged(path, "the file is empty")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(path, "%v", r)
		}
	}()
	db, err := bbolt.Open(path, 0o600, boltOptions(true))
	if err != nil {
		return 0, openError(path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return damaged(path, "it has %d bytes of %d: it was cut off", info.Size(), tx.Size())
		}
		conf, logs := tx.Bucket([]byte("conf")), tx.Bucket([]byte("logs"))
		if conf == nil || logs == nil {
			return damaged(path, "it is not a Raft log")
		}
		term, err := verifyConf(path, conf)
		if err != nil {
			return err
		}
		live, err = verifyLog(path, logs, term, snap)
		return err
	})
	return live, err
}

func verifyConf(path string, conf *bbolt.Bucket) (term uint64, err error) {
	err = conf.ForEach(func(k, v []byte) error {
		switch string(k) {
		case keyCurrentTerm, keyLastVoteTerm:
			if len(v) != 8 {
				return damaged(path, "%s has %d bytes", k, len(v))
			}
		}
		if string(k) == keyCurrentTerm {
			term = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	return term, err
}

// verifyLog decodes each entry. Above the newest snapshot there is no gap and
// no step back in term; below it a follower that was sent a snapshot may have
// left one.
func verifyLog(path string, logs *bbolt.Bucket, term uint64, snap *raft.SnapshotMeta) (live int64, err error) {
	var floor uint64 // the last index that the log need not have
	if snap != nil {
		floor = snap.Index
	}
	next, lastTerm := floor+1, uint64(0)
	c := logs.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(k) != 8 {
			return 0, damaged(path, "an entry has a key of %d bytes", len(k))
		}
		live += int64(len(k) + len(v))
		index := binary.BigEndian.Uint64(k)
		var l raft.Log
		if err := codec.NewDecoderBytes(v, &codec.MsgpackHandle{}).Decode(&l); err != nil {
			return 0, damaged(path, "entry %d: %v", index, err)
		}
		if l.Index != index || l.Term == 0 || l.Term > term {
			return 0, damaged(path, "entry %d says index %d and term %d, in term %d", index, l.Index, l.Term, term)
		}
		if index <= floor {
			continue
		}
		if index != next || l.Term < lastTerm {
			return 0, damaged(path, "entry %d of term %d stands where entry %d was expected: entries are missing", index, l.Term, next)
		}
		next, lastTerm = index+1, l.Term
	}
	return live, nil
}

// dropConflict removes what a follower has kept at and behind the last index of
// a snapshot, if it is of another term than the snapshot: it was never
// committed. Raft forgets that (rule 7 of its InstallSnapshot), refuses every
// entry that follows, and is sent the snapshot again for ever
// (hashicorp/raft#697).
func dropConflict(d disk, snap *raft.SnapshotMeta) (dropped bool, err error) {
	conflict, err := hasConflict(d, snap)
	if err != nil || !conflict {
		return false, err
	}
	last, err := d.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read raft.db: %w", err)
	}
	if err := d.DeleteRange(snap.Index, last); err != nil {
		return false, fmt.Errorf("drop entries %d to %d, which a snapshot replaces: %w", snap.Index, last, err)
	}
	return true, nil
}

func hasConflict(d disk, snap *raft.SnapshotMeta) (bool, error) {
	if snap == nil {
		return false, nil
	}
	var l raft.Log
	err := d.GetLog(snap.Index, &l)
	if errors.Is(err, raft.ErrLogNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read entry %d: %w", snap.Index, err)
	}
	return l.Term != snap.Term, nil
}
