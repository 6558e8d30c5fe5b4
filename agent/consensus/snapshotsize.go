package consensus

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// snapshotsIn says how many snapshots a node's folder holds, unfinished ones too, and
// how many bytes they take.
func snapshotsIn(dir string) (count int, size int64) {
	root := filepath.Join(dir, snapshotFolder)
	entries, err := os.ReadDir(root)
	if err != nil {
		return 0, 0
	}
	for _, e := range entries {
		if e.IsDir() {
			count++
		}
	}
	// What goes while it is looked at is not there.
	filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return count, size
}
