package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

const (
	// compactAbove is the size from which raft.db is looked at: the log that the
	// profiles keep, of commands of 200 bytes, stays well below.
	compactAbove = 64 << 20
	// compactShare: a file of more than so many times what is in it is mostly
	// holes that a burst has left. bbolt reuses them and never gives them back.
	compactShare = 4
	// compactTx bounds what one transaction of the copy holds in memory.
	compactTx = 1 << 20
)

// wantsCompaction tells whether raft.db is much larger than its live bytes.
func wantsCompaction(dir string, live int64) bool {
	info, err := os.Stat(filepath.Join(dir, dbFile))
	return err == nil && info.Size() > compactAbove && info.Size() > compactShare*live
}

// compactDB replaces raft.db by a copy without holes, as a whole or not at all.
// It runs before the file is opened for writing; whoever calls it has the folder
// to itself.
func compactDB(dir string) (err error) {
	path := filepath.Join(dir, dbFile)
	tmp := path + ".new"
	defer func() {
		if err != nil {
			err = fmt.Errorf("compact %s: %w", path, errors.Join(err, os.RemoveAll(tmp)))
		}
	}()
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	from, err := bbolt.Open(path, 0o600, boltOptions(true))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := bbolt.Open(tmp, 0o600, boltOptions(false))
	if err != nil {
		return err
	}
	err = bbolt.Compact(to, from, compactTx)
	if err == nil {
		err = to.Sync()
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncFolder(dir)
}
