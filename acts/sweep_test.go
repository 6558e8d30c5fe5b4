package acts

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aged writes a file that is two hours old.
func aged(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if then := time.Now().Add(-2 * time.Hour); os.Chtimes(path, then, then) != nil {
		t.Fatal(path)
	}
}

// orphan is the path of an old photo without an act, among those of s.
func orphan(t *testing.T, s *Service) string {
	t.Helper()
	path := filepath.Join(s.photos.dir, filepath.FromSlash(newKey()))
	aged(t, path)
	return path
}

// TestSweepTakesItsOwn: two databases and somebody else keep photos in one folder, all
// of them old; each database sweeps its own alone.
func TestSweepTakesItsOwn(t *testing.T) {
	folder := t.TempDir()
	one, other := opened(t, Config{Data: t.TempDir(), Photos: "file://" + folder}), opened(t, Config{Data: t.TempDir(), Photos: "file://" + folder})
	if one.photos.dir == other.photos.dir {
		t.Fatalf("two databases have one name: %s", one.photos.dir)
	}
	strangers := []string{orphan(t, other), filepath.Join(folder, "holiday.jpg"), filepath.Join(folder, "aa", "deadbeef")}
	for _, path := range strangers[1:] {
		aged(t, path)
	}
	own := orphan(t, one)
	if n, err := one.photos.sweep(t.Context(), one.store, time.Now(), sweepGrace); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want its own one", n, err)
	}
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("its own orphan: %v", err)
	}
	for _, path := range strangers {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("what is not its own: %v", err)
		}
	}
}

// TestOneNameForAll processes of a database, and for ever.
func TestOneNameForAll(t *testing.T) {
	dir := t.TempDir()
	a, b := opened(t, Config{Data: dir}), opened(t, Config{Data: dir})
	if a.photos.dir != b.photos.dir || len(filepath.Base(a.photos.dir)) != 32 {
		t.Errorf("%s and %s", a.photos.dir, b.photos.dir)
	}
}

// TestSweepReadsEachFolderOnce however many photos there are, takes all that no act has,
// and leaves the one that has an act.
func TestSweepReadsEachFolderOnce(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, nil)); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	const each = 300
	folders := []string{"00", "7f", "a0", "ff"} // more than a page of a list in all
	for i := range each * len(folders) {
		path := filepath.Join(s.photos.dir, folders[i%len(folders)], newKey()[3:])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	of := map[int32]string{}
	for _, name := range folders {
		id, err := unix.InotifyAddWatch(watch, filepath.Join(s.photos.dir, name), unix.IN_OPEN|unix.IN_ONLYDIR)
		if err != nil {
			t.Fatal(err)
		}
		of[int32(id)] = name
	}
	if n, err := s.photos.sweep(t.Context(), s.store, time.Now().Add(2*time.Second), 0); n != each*len(folders) || err != nil {
		t.Errorf("swept %d of %d, %v", n, each*len(folders), err)
	}
	opens := map[string]int{}
	for events := make([]byte, 64<<10); ; {
		n, err := unix.Read(watch, events)
		if err != nil { // all have been read
			break
		}
		for e := events[:n]; len(e) >= unix.SizeofInotifyEvent; { // struct inotify_event, inotify(7)
			length := int(binary.NativeEndian.Uint32(e[12:]))
			if length == 0 { // the folder itself, and nothing in it
				opens[of[int32(binary.NativeEndian.Uint32(e))]]++
			}
			e = e[unix.SizeofInotifyEvent+length:]
		}
	}
	for _, name := range folders {
		if opens[name] != 1 {
			t.Errorf("folder %s was read %d times", name, opens[name])
		}
	}
	if status, photo, _ := ask(t, url, "GET", "/api/v1/acts/1/image", ""); status != 200 || photo != "hello" {
		t.Errorf("the photo of an act: %d %q", status, photo)
	}
}

// TestServiceSweeps by itself, soon after its start.
func TestServiceSweeps(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	if s.firstSweep > sweepGrace/2 {
		t.Errorf("the first sweep comes %s after the start", s.firstSweep)
	}
	s.firstSweep = time.Millisecond
	path := orphan(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.run(ctx, l, nil) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody sweeps")
		}
	}
}

// TestCategoryTakesItsPhotos along, at once and not by a sweep.
func TestCategoryTakesItsPhotos(t *testing.T) {
	dir := t.TempDir()
	url := service(t, dir).URL
	settled(t, url)
	for id := range 5 {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(id, 100)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	if n := len(blobs(t, dir)); n != 5 {
		t.Fatalf("%d photos of 5", n)
	}
	if status, answer, _ := ask(t, url, "DELETE", "/api/v1/categories/green", ""); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	if left := blobs(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for id := range 5 {
		if status, _, _ := ask(t, url, "GET", fmt.Sprintf("/api/v1/acts/%d/image", id), ""); status != 404 {
			t.Errorf("the photo of act %d: %d", id, status)
		}
	}
}
