package consensus

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

// usedFolder is the folder of a node that has commands, a snapshot and commands
// after it.
func usedFolder(t *testing.T) (dir string, cfg Config) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	for i := range 20 {
		c.propose(fmt.Sprint(i))
	}
	if err := s.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		c.propose(fmt.Sprint("late ", i))
	}
	s.close(t)
	cfg = s.cfg
	cfg.Addr = "127.0.0.1:0"
	return s.cfg.Dir, cfg
}

// contents is every file below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "folder"
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func find(t *testing.T, dir, name string) string {
	t.Helper()
	for path := range contents(t, dir) {
		if filepath.Base(path) == name {
			return path
		}
	}
	t.Fatalf("no %s in %s", name, dir)
	return ""
}

func overwrite(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, edit(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// editDB changes raft.db as a program would, so that its structure stays whole.
func editDB(t *testing.T, path string, edit func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(edit), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damage is one thing that can have happened to a folder.
type damage struct {
	file string // that the error must name
	do   func(path string)
}

// damages are those of a folder that usedFolder makes.
func damages(t *testing.T) map[string]damage {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	noise := func(from int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := from; i < len(b); i++ {
				b[i] = byte(i * 7)
			}
			return b
		}
	}
	page := os.Getpagesize()
	edit := func(change func(*bbolt.Tx) error) func(string) {
		return func(path string) { editDB(t, path, change) }
	}
	write := func(change func([]byte) []byte) func(string) {
		return func(path string) { overwrite(t, path, change) }
	}
	remove := func(path string) { must(t, os.Remove(path)) }
	return map[string]damage{
		"empty":            {dbFile, write(func([]byte) []byte { return nil })},
		"cut off":          {dbFile, write(half)},
		"cut to its heads": {dbFile, write(func(b []byte) []byte { return b[:2*page] })},
		"cut in a head":    {dbFile, write(func(b []byte) []byte { return b[:100] })},
		"noise":            {dbFile, write(noise(0))},
		"noise in pages":   {dbFile, write(noise(2 * page))},
		"text":             {dbFile, write(func([]byte) []byte { return bytes.Repeat([]byte("hello\n"), 5000) })},
		"missing":          {dbFile, remove},
		"another program's": {dbFile, edit(func(tx *bbolt.Tx) error {
			return tx.DeleteBucket([]byte("logs"))
		})},
		"a gap": {dbFile, edit(func(tx *bbolt.Tx) error {
			c := tx.Bucket([]byte("logs")).Cursor()
			c.Last()
			c.Prev()
			return c.Delete()
		})},
		"a garbled entry": {dbFile, edit(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("logs"))
			k, _ := b.Cursor().Last()
			return b.Put(bytes.Clone(k), []byte{0xc1, 0xff})
		})},
		"a term that is behind": {dbFile, edit(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("conf")).Put([]byte(keyCurrentTerm), make([]byte, 8))
		})},
		"a short term": {dbFile, edit(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("conf")).Put([]byte(keyLastVoteTerm), []byte{1})
		})},
		"a flipped bit":   {stateFile, write(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		"half a snapshot": {stateFile, write(half)},
		"no state":        {stateFile, remove},
		"no description":  {metaFile, remove},
		"garbage meta":    {metaFile, write(noise(0))},
		"a state that the machine refuses": {stateFile, func(p string) {
			overwrite(t, p, func([]byte) []byte { return []byte("{") })
			overwrite(t, filepath.Join(filepath.Dir(p), metaFile), func(b []byte) []byte { return resum(t, b, []byte("{")) })
		}},
	}
}

func TestDamagedFolderIsRefusedUntouched(t *testing.T) {
	used, cfg := usedFolder(t)
	for name, damage := range damages(t) {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Dir = filepath.Join(t.TempDir(), "data")
			must(t, os.CopyFS(cfg.Dir, os.DirFS(used)))
			must(t, os.Chmod(cfg.Dir, 0o700))
			path := find(t, cfg.Dir, damage.file)
			damage.do(path)
			before := contents(t, cfg.Dir)
			l := &list{}
			n, err := Open(cfg, l)
			if err == nil {
				n.Close(t.Context())
				t.Fatal("opened")
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want ErrCorrupt naming %s", err, path)
			}
			after := contents(t, cfg.Dir)
			for path, was := range before {
				if is, ok := after[path]; !ok || is != was {
					t.Errorf("%s was touched", path)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%d files, were %d", len(after), len(before))
			}
		})
	}
	// The undamaged copy opens: what is refused above is refused for its damage.
	s := (&cluster{t: t}).open(cfg)
	until(t, "the log is replayed", func() bool { return s.list.has("late 19") && s.list.has("0") })
}

func resum(t *testing.T, meta, state []byte) []byte {
	var m map[string]any
	must(t, json.Unmarshal(meta, &m))
	m["CRC"] = binary.BigEndian.AppendUint64(nil, crc64.Checksum(state, crc64.MakeTable(crc64.ECMA)))
	b, err := json.Marshal(m)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A burst leaves holes in raft.db; the next start gives them back.
func TestHolesAreGivenBack(t *testing.T) {
	dir, cfg := usedFolder(t)
	path := filepath.Join(dir, dbFile)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("burst"))
		for i := 0; err == nil && i < 5*compactAbove/4/MaxCommand; i++ {
			err = b.Put([]byte(fmt.Sprint(i)), make([]byte, MaxCommand))
		}
		return err
	}))
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("burst")) }))
	must(t, db.Close())
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() <= compactAbove {
		t.Fatalf("only %d bytes", info.Size())
	}
	s := (&cluster{t: t}).open(cfg)
	until(t, "the log is replayed", func() bool { return s.list.has("late 19") && s.list.has("0") })
	if size := s.Status().DBBytes; size > compactAbove/8 {
		t.Errorf("still %d bytes", size)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFolderInUse(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	cfg := s.cfg
	cfg.Addr = "127.0.0.1:0"
	n, err := Open(cfg, &list{})
	if err == nil {
		n.Close(t.Context())
		t.Fatal("opened twice")
	}
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), filepath.Join(cfg.Dir, dbFile)) {
		t.Fatalf("got %v, want ErrInUse naming raft.db", err)
	}
	c.propose("the first goes on")
}

func TestFolderIsClosedToOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	c := &cluster{t: t}
	cfg := c.config("n1")
	cfg.Dir = filepath.Join(cfg.Dir, "data")
	s := c.open(cfg)
	c.servers = append(c.servers, s)
	must(t, s.Bootstrap(within(t, patience)))
	c.propose("x")
	must(t, s.raft.Load().Snapshot().Error())
	seen := map[string]bool{}
	must(t, filepath.WalkDir(cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		seen[d.Name()] = true
		return err
	}))
	if !seen[stateFile] || !seen[metaFile] || !seen[dbFile] {
		t.Fatalf("no snapshot was made: %v", seen)
	}
}

func TestUnfinishedSnapshotsAreReaped(t *testing.T) {
	dir, cfg := usedFolder(t)
	rest := filepath.Join(dir, snapshotFolder, "9-99-1"+tmpSuffix)
	must(t, os.MkdirAll(rest, 0o700))
	must(t, os.WriteFile(filepath.Join(rest, stateFile), []byte("half"), 0o600))
	s := (&cluster{t: t}).open(cfg)
	if _, err := os.Stat(rest); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the rest is still there: %v", err)
	}
	until(t, "the state is back", func() bool { return s.list.has("late 19") })
}

// A snapshot on a full disk fails and gives back the room it took.
func TestSnapshotOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") != "true" {
		// Without a small disk to fill, the whole of it would have to be.
		TestFailedSnapshotLeavesNothing(t)
		return
	}
	c := newCluster(t, 1, func(_ int, cfg *Config) { smallDisk(t, cfg.Dir) })
	s := c.leader()
	for i := range 10 { // 640 KiB in the log, and as much again in a snapshot
		c.propose(fmt.Sprint(i, strings.Repeat("x", MaxCommand-10)))
		if s.Status().Fenced {
			t.Fatal("the disk is full too early")
		}
	}
	ballast := filepath.Join(s.cfg.Dir, "ballast")
	fillDisk(t, ballast)
	if err := s.raft.Load().Snapshot().Error(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("a snapshot on a full disk: %v", err)
	}
	left, err := os.ReadDir(s.snaps.dir)
	must(t, err)
	if len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	must(t, os.Remove(ballast))
	must(t, s.raft.Load().Snapshot().Error())
	c.propose("goes on")
}

func TestFailedSnapshotLeavesNothing(t *testing.T) {
	c := newCluster(t, 1, nil)
	s := c.leader()
	c.propose("x")
	sink, err := s.snaps.Create(1, 2, 1, s.raft.Load().GetConfiguration().Configuration(), 1, s.trans)
	must(t, err)
	if _, err := sink.Write(make([]byte, 10000)); err != nil {
		t.Fatal(err)
	}
	must(t, sink.Cancel())
	left, err := os.ReadDir(s.snaps.dir)
	must(t, err)
	if len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}
