package local

import (
	"os"
	"syscall"
	"testing"
)

// memory is where Linux keeps files in memory.
const memory = "/dev/shm"

// enough is how many free bytes the logs of a test's nodes may need.
const enough = 1 << 30

// Folder makes a folder that ends with the test, in memory where there is room: a disk that
// is busy with the work of others holds an fsync up for longer than an election takes. The
// end-to-end tests keep their logs on the real disk.
func Folder(t testing.TB) string {
	t.Helper()
	in := ""
	var x syscall.Statfs_t
	if syscall.Statfs(memory, &x) == nil && x.Bavail*uint64(x.Bsize) > enough {
		in = memory
	}
	dir, err := os.MkdirTemp(in, "orch") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
