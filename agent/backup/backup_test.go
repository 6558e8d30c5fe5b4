package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"orch/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const clusterID = "0123456789abcdef0123456789abcdef"

// state is a small real one.
func state(t testing.TB) *fsm.State {
	t.Helper()
	s := fsm.NewStore()
	for i, c := range []fsm.Command{
		fsm.InitCluster{ClusterID: clusterID},
		fsm.PutNode{Node: fsm.Node{ID: "n1", Addr: "10.0.0.1", RaftAddr: "10.0.0.1:7481", APIAddr: "10.0.0.1:7480"}},
		fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()},
		fsm.Place{Service: "acts", Number: 1, Node: "n1", Port: 8000},
	} {
		data, err := fsm.Encode(1000, c)
		if err != nil {
			t.Fatal(err)
		}
		if err, refused := s.Apply(uint64(i+1), 1, data).(error); refused {
			t.Fatal(err)
		}
	}
	return s.View()
}

func file(t testing.TB, at time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(&b, state(t), "n1", "v1", at); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)
	m, v, err := Read(bytes.NewReader(file(t, at)))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Meta{Format: 1, ClusterID: clusterID, Node: "n1", Version: "v1", Term: 1, Index: 4, TakenAt: at.Truncate(time.Second)}); m != want {
		t.Errorf("meta %+v, want %+v", m, want)
	}
	var a, b bytes.Buffer
	if err := errors.Join(fsm.WriteSnapshot(&a, v), fsm.WriteSnapshot(&b, state(t))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the state has changed on its way")
	}
}

// Whatever is cut off or changed is refused, but for the padding that tar ignores.
func TestDamageIsRefused(t *testing.T) {
	whole := file(t, time.Unix(1, 0))
	_, want, err := Read(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	var good bytes.Buffer
	if err := fsm.WriteSnapshot(&good, want); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		_, v, err := Read(bytes.NewReader(damaged))
		if err == nil {
			var b bytes.Buffer
			if err := fsm.WriteSnapshot(&b, v); err != nil || !bytes.Equal(b.Bytes(), good.Bytes()) {
				t.Fatalf("byte %d changed, and another state was read", i)
			}
		} else if !errors.Is(err, ErrArchive) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := 0; n < len(whole)-1536; n += 97 { // tar ends with up to three blocks of zeroes
		if _, _, err := Read(bytes.NewReader(whole[:n])); !errors.Is(err, ErrArchive) {
			t.Fatalf("cut off at %d of %d: %v", n, len(whole), err)
		}
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	pack := func(files ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1]))}); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, files[i+1])
		}
		w.Close()
		return b.Bytes()
	}
	newer := `{"format": 2, "version": "v9"}`
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":           {nil, "is missing"},
		"text":            {[]byte(strings.Repeat("hello ", 200)), ""},
		"another tar":     {pack("passwd", "x"), `"passwd"`},
		"twice":           {pack(metaFile, "{}", metaFile, "{}"), metaFile},
		"a newer release": {pack(metaFile, newer, stateFile, "x", sumsFile, sumLine(metaFile, []byte(newer))+sumLine(stateFile, []byte("x"))), "use the release that wrote it (v9)"},
	} {
		if _, _, err := Read(bytes.NewReader(c.file)); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(f, time.Unix(1, 0)))
	f.Add([]byte("meta.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, v, err := Read(bytes.NewReader(b))
		if err == nil && (v == nil || m.Format != Format) {
			t.Errorf("accepted %+v, %v", m, v)
		}
	})
}

func TestPlaceKeepsTheNewest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshots")
	kept := keepsTheNewest(t, dir)
	for name, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, kept[0]): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// keepsTheNewest puts five files into an empty place, beside some of others, and has all
// but the newest two removed, which it returns.
func keepsTheNewest(t *testing.T, to string) []string {
	t.Helper()
	p, err := OpenPlace(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if at, err := p.Newest(t.Context(), clusterID, start.Add(5*time.Hour)); err != nil || !at.IsZero() {
		t.Errorf("newest of none: %v, %v", at, err)
	}
	for i := range 5 {
		m := Meta{ClusterID: clusterID, TakenAt: start.Add(time.Duration(i) * time.Hour), Index: uint64(100 - i)} // time counts, not the index
		if err := p.Put(t.Context(), m.Name(), []byte(m.Name())); err != nil {
			t.Fatal(err)
		}
	}
	foreign := []string{"orch-ff-20250101T000000Z-1.snap", "orch-" + clusterID + "-notes.txt", "mine.snap"}
	for _, name := range foreign {
		if err := p.bucket.WriteAll(t.Context(), name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Prune(t.Context(), clusterID, 2, start.Add(5*time.Hour)); err != nil {
		t.Fatal(err)
	}
	names, err := p.List(t.Context(), clusterID, start.Add(5*time.Hour))
	if err != nil || len(names) != 2 || !strings.Contains(names[0], "T030000Z-97") || !strings.Contains(names[1], "T040000Z-96") {
		t.Fatalf("kept %v, %v", names, err)
	}
	for _, name := range names {
		if b, err := p.bucket.ReadAll(t.Context(), name); err != nil || string(b) != name {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if at, err := p.Newest(t.Context(), clusterID, start.Add(5*time.Hour)); err != nil || !at.Equal(start.Add(4*time.Hour)) {
		t.Errorf("newest %v, %v", at, err)
	}
	for _, name := range foreign {
		if there, err := p.bucket.Exists(t.Context(), name); err != nil || !there {
			t.Errorf("%s, which is of somebody else, is gone: %v", name, err)
		}
	}
	return names
}

// TestNobodyElseReadsAFile at any moment, whatever the umask: it is made with its mode,
// and not given it afterwards.
func TestNobodyElseReadsAFile(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, ".orch-ff-20250101T000000Z-1.snap-123.tmp")
	if err := os.WriteFile(cut, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_ATTRIB|unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	p, err := OpenPlace(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := Meta{ClusterID: clusterID, TakenAt: time.Now(), Index: 7}
	if err := p.Put(t.Context(), m.Name(), []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, m.Name())); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(cut); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was cut off stays: %v", err)
	}
	buf, made := make([]byte, 4096), 0
	n, err := unix.Read(watch, buf)
	if err != nil {
		t.Fatal(err)
	}
	for e := buf[:n]; len(e) >= unix.SizeofInotifyEvent; {
		mask, length := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[12:])
		if mask&unix.IN_ATTRIB != 0 {
			t.Errorf("the mode of %s was changed", e[unix.SizeofInotifyEvent:][:length])
		}
		made++
		e = e[unix.SizeofInotifyEvent+length:]
	}
	if made == 0 {
		t.Error("no file was made")
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPlace(t.Context(), dir); !errors.Is(err, ErrPlace) || !strings.Contains(err.Error(), "chmod go-w "+dir) {
		t.Errorf("a folder that others may write to: %v", err)
	}
}

// TestFolderOfAnotherUser is no place for files: its owner may put others in theirs.
func TestFolderOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root may give folders away")
		}
		t.Skip("only root may give folders away")
	}
	for _, mode := range []os.FileMode{0o700, 0o777 | os.ModeSticky} {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, mode), os.Chown(dir, 65534, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPlace(t.Context(), dir); !errors.Is(err, ErrPlace) || !strings.Contains(err.Error(), "chown 0 "+dir) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestPlacesThatAreNone(t *testing.T) {
	for _, to := range []string{"", "snapshots", "../x", "s3://", "ftp://h/x", "s3://key:secret@bucket", "file:///tmp"} {
		if _, err := OpenPlace(t.Context(), to); !errors.Is(err, ErrPlace) || !strings.Contains(err.Error(), "absolute path") {
			t.Errorf("%q: %v", to, err)
		}
	}
}

type node struct {
	leads atomic.Bool
	v     *fsm.State
}

func (n *node) Leads() bool                              { return n.leads.Load() }
func (n *node) View(context.Context) (*fsm.State, error) { return n.v, nil }

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.snap"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func schedule(n *node, to string) *Schedule {
	return NewSchedule(Config{To: to, Every: time.Hour, Keep: 3, Node: "n1", Version: "v1", Logger: slog.New(slog.DiscardHandler)}, n)
}
