package acts

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// healthOf asks once. What is well says nothing, and what is not says so as all errors do.
func healthOf(t testing.TB, url string) (int, time.Duration) {
	t.Helper()
	begin := time.Now()
	status, body, h := ask(t, url, "GET", "/api/v1/_health", "")
	took := time.Since(begin)
	var said struct {
		Error struct {
			Code    int
			Message string
		}
	}
	if status == 200 && body != "" || status != 200 && (json.Unmarshal([]byte(body), &said) != nil || said.Error.Code != status || said.Error.Message == "" || h.Get("Content-Type") != "application/json") {
		t.Errorf("health: %d %q as %q", status, body, h.Get("Content-Type"))
	}
	return status, took
}

// volume is a folder with a file system of its own.
func volume(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("a volume of its own needs root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestNoMoreFiles: a volume with room for bytes and for no more files is told, and well
// again when some are gone.
func TestNoMoreFiles(t *testing.T) {
	dir := volume(t, "size=48m,nr_inodes=400")
	url := service(t, dir).URL
	settled(t, url)
	if status, _ := healthOf(t, url); status != 200 {
		t.Fatalf("with room: %d", status)
	}
	var made []string
	for {
		path := filepath.Join(dir, fmt.Sprintf("filler%d", len(made)))
		f, err := os.Create(path)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		made = append(made, path)
	}
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, nil)); status < 500 {
		t.Errorf("an upload without room for its file: %d %s", status, answer)
	}
	if status, took := healthOf(t, url); status != 500 || took > time.Second {
		t.Errorf("no more files: %d after %s", status, took)
	}
	for _, path := range made[:2*leastFiles] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := healthOf(t, url); status != 200 {
		t.Errorf("room again: %d", status)
	}
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, nil)); status != 201 {
		t.Errorf("room again: %d %s", status, answer)
	}
}

// TestFullDisk: a volume that is full is told within a second, an upload is refused, and
// all is well when there is room again.
func TestFullDisk(t *testing.T) {
	dir := volume(t, "size=48m")
	url := service(t, dir).URL
	settled(t, url)
	if status, _ := healthOf(t, url); status != 200 {
		t.Fatalf("with room: %d", status)
	}
	before := blobs(t, dir)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for piece := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(piece)
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if status, took := healthOf(t, url); status != 500 || took > time.Second {
		t.Errorf("full: %d after %s", status, took)
	}
	for _, size := range []int{10 << 10, 1 << 20} {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(size, size)); status != 503 && status != 500 {
			t.Errorf("an upload of %d bytes on a full volume: %d %s", size, status, answer)
		}
	}
	// The database can write again, but a photo of 10 MiB would not go in.
	if info, err := os.Stat(filler); err != nil || os.Truncate(filler, info.Size()-8<<20) != nil {
		t.Fatal(err)
	}
	if status, took := healthOf(t, url); status != 500 || took > time.Second {
		t.Errorf("room for the database alone: %d after %s", status, took)
	}
	if status, _, _ := ask(t, url, "GET", "/api/v1/categories", ""); status != 200 {
		t.Errorf("reading on a full volume: %d", status)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if left := blobs(t, dir); len(left) > len(before) {
		t.Errorf("refused uploads left %v", left)
	}
	if status, took := healthOf(t, url); status != 200 || took > time.Second {
		t.Errorf("room again: %d after %s", status, took)
	}
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(1, 1<<20)); status != 201 {
		t.Errorf("room again: %d %s", status, answer)
	}
}

// TestBusyIsNotStuck: while another writes for three seconds the service is well, and
// each answer comes at once; a lock that lasts longer than stuckAfter is a fault.
func TestBusyIsNotStuck(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	url := serving(t, s).URL
	other, err := sql.Open("sqlite", sqliteDSN(dir, 1000, true))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil) // takes the write lock
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	late := 0 // of 500 ms 300 are spent on asking; this machine may want more than the rest
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		status, took := healthOf(t, url)
		if status == 500 && took >= healthTimeout {
			late++
		} else if status != 200 || took > time.Second {
			t.Fatalf("busy for %s: %d after %s", time.Since(begin), status, took)
		}
	}
	if late > 2 {
		t.Errorf("%d answers came too late", late)
	}
	db := s.store.(*sqliteStore)
	db.mu.Lock()
	db.busy = db.busy.Add(-stuckAfter) // as if it had begun so long ago
	db.mu.Unlock()
	if status, took := healthOf(t, url); status != 500 || took > time.Second {
		t.Errorf("stuck: %d after %s", status, took)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if status, _ := healthOf(t, url); status != 200 {
		t.Errorf("free again: %d", status)
	}
}

// TestHangingDisk: a disk that answers nothing is told in time, once however many ask,
// and forgiven when it answers again.
func TestHangingDisk(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	hangs := make(chan struct{})
	var asked atomic.Int64
	s.room = func(string, int64) error {
		asked.Add(1)
		<-hangs
		return nil
	}
	for range 3 {
		if status, took := healthOf(t, url); status != 500 || took > 5*time.Second {
			t.Errorf("hanging: %d after %s", status, took)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the disk was asked %d times while it hung", n)
	}
	close(hangs)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if status, _ := healthOf(t, url); status == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("it answers again, but health says %d", status)
		}
	}
}

// TestFullFolderOfPhotos is a fault wherever the database is.
func TestFullFolderOfPhotos(t *testing.T) {
	folder := t.TempDir()
	s := opened(t, Config{Data: t.TempDir(), Photos: "file://" + folder})
	url := serving(t, s).URL
	s.room = func(at string, _ int64) error {
		if strings.HasPrefix(at, folder) {
			return errors.New("full")
		}
		return nil
	}
	if status, _ := healthOf(t, url); status != 500 {
		t.Errorf("no room for photos: %d", status)
	}
	s.room = room
	if status, _ := healthOf(t, url); status != 200 {
		t.Errorf("room again: %d", status)
	}
}

// TestDeadSQLite: a database whose file is no database any more is told within a second.
func TestDeadSQLite(t *testing.T) {
	dir := t.TempDir()
	url := service(t, dir).URL
	if status, _ := healthOf(t, url); status != 200 {
		t.Fatalf("alive: %d", status)
	}
	for _, name := range []string{"acts.db", "acts.db-wal", "acts.db-shm"} { // the last is mapped, so that it must keep its length
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if status, took := healthOf(t, url); status != 500 || took > time.Second {
		t.Errorf("dead: %d after %s", status, took)
	}
}
