package acts

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"orch/scripts/local"
)

// slowly is a connection of a client far away that asks and does not read on: what it is
// sent fills small buffers, not the megabytes that the loopback device has.
func slowly(t testing.TB, url, path string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		set := func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536)
			}
		}
		if e := raw.Control(set); e != nil {
			return e
		}
		return err
	}}
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(50 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	return c
}

// noisy is a PNG of noise through which one can see: it shrinks to what no encoder makes
// small.
func noisy(t testing.TB, w, h int) []byte {
	t.Helper()
	palette := make(color.Palette, 16)
	for i := range palette {
		palette[i] = color.NRGBA{uint8(i * 16), uint8(i * 37), uint8(i * 91), uint8(100 + i)}
	}
	m := image.NewPaletted(image.Rect(0, 0, w, h), palette)
	rand.NewChaCha8([32]byte{1}).Read(m.Pix)
	for i := range m.Pix {
		m.Pix[i] &= 15
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stocked adds n acts whose photos are one file under many keys; it returns where they are
// to be seen.
func stocked(t testing.TB, s *Service, n int, photo []byte, caption string) (paths []string) {
	t.Helper()
	of := func(key string) string { return filepath.Join(s.photos.dir, filepath.FromSlash(key)) }
	first := newKey()
	if err := s.photos.put(t.Context(), first, "", photo); err != nil {
		t.Fatal(err)
	}
	for range n {
		have, err := s.store.count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := act{ID: have, Username: "ann", Timestamp: "28-02-2019:05-04-03", Category: "green", Caption: caption}
		a.Photo.Key, a.Photo.Type, a.Photo.Size = newKey(), imageType(photo), int64(len(photo))
		if err := errors.Join(os.MkdirAll(filepath.Dir(of(a.Photo.Key)), 0o700), os.Link(of(first), of(a.Photo.Key))); err != nil {
			t.Fatal(err)
		}
		if _, err := s.store.addAct(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, fmt.Sprintf("/api/v1/acts/%d/image", a.ID))
	}
	return paths
}

// TestMemoryOfSlowReaders of every kind at once, in a process with the limit that a
// container of 256 MiB gives it: photos that are their own thumbnails, originals, lists
// with photos and lists with texts. Any kind alone would be too much if it were held.
func TestMemoryOfSlowReaders(t *testing.T) {
	const most = 256 << 10 // KiB
	const narrow, originals, lists = 20, 300, 300
	dir, metrics := t.TempDir(), local.FreeAddr(t)
	p := start(t, program(t), []string{fmt.Sprintf("GOMEMLIMIT=%d", 256<<20*6/10)}, "--data", dir, "--metrics", metrics)
	settled(t, p.url)
	s := opened(t, Config{Data: dir})
	large := stocked(t, s, 1, noisy(t, 2100, 1500), "")[0]
	strip := blank(t, 2000, 10, toPNG)
	paths := stocked(t, s, narrow, append(strip, make([]byte, maxPhoto-len(strip))...), "")
	for i := range paths {
		paths[i] += "?w=2048"
	}
	paths = append(paths, stocked(t, s, originals, noise(1, 500<<10), "")...)
	stocked(t, s, pageLimit, []byte("hello"), strings.Repeat("x", longText-len("ann")))
	for range lists { // the latest come first
		paths = append(paths, "/api/v1/categories/green/acts?start=1&end=100", "/api/v1/categories/green/acts?start=101&end=200")
	}
	for w := 2048; w > 2044; w-- {
		if status, answer, _ := ask(t, p.url, "GET", fmt.Sprintf("%s?w=%d", large, w), ""); status != 422 || !strings.Contains(answer, "4 MiB") {
			t.Errorf("a thumbnail that is large: %d %.200q", status, answer)
		}
	}
	t.Logf("before they come: %d MiB", p.peak()>>10)
	var wg sync.WaitGroup
	for _, path := range paths {
		c := slowly(t, p.url, path)
		wg.Go(func() { // what is behind its first line waits for the client
			line := make([]byte, len("HTTP/1.1 200"))
			if _, err := io.ReadFull(c, line); err != nil || string(line) != "HTTP/1.1 200" {
				t.Errorf("GET %s: %s, %v", path, line, err)
			}
		})
	}
	wg.Wait()
	_, said, _ := ask(t, "http://"+metrics, "GET", "/metrics", "")
	for _, want := range []string{fmt.Sprintf("\nacts_requests_in_flight %d\n", len(paths)), fmt.Sprintf("\nacts_thumbnails_total %d\n", narrow+1)} {
		if !strings.Contains(said, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
	t.Logf("%d under way: %d MiB", len(paths), p.peak()>>10)
	if n := p.peak(); n > most {
		t.Errorf("at its peak it had %d KiB, more than %d", n, most)
	}
	http.DefaultClient.CloseIdleConnections()
}

// takeAll takes n of what a service has to give, when all of it has come back: a client may
// have its answer a moment before that.
func takeAll(t testing.TB, what string, from *semaphore.Weighted, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := from.Acquire(ctx, n); err != nil {
		t.Fatalf("%s: it has not come back: %v", what, err)
	}
}

// TestLentMemoryHasALimit: beyond it thumbnails come from disk and pages act by act, to
// the byte what they are otherwise, and what was lent comes back.
func TestLentMemoryHasALimit(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	url := serving(t, s).URL
	settled(t, url)
	photo := base64.StdEncoding.EncodeToString(noisy(t, 420, 320))
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, map[string]any{"imgB64": photo})); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	for i, path := range []string{"/api/v1/acts/1/image?w=320", "/api/v1/categories/green/acts"} {
		status, want, h := ask(t, url, "GET", path, "")
		if status != 200 || len(want) <= inMemory {
			t.Fatalf("%s: %d, %d bytes", path, status, len(want))
		}
		takeAll(t, path, s.lent, maxLent)
		for range 2 {
			if status, got, after := ask(t, url, "GET", path, ""); status != 200 || got != want || after.Get("ETag") != h.Get("ETag") || after.Get("Content-Type") != h.Get("Content-Type") {
				t.Errorf("%s without memory: %d, %d bytes of %d, %v", path, status, len(got), len(want), after)
			}
		}
		content, done, err := s.readable(make([]byte, inMemory+1))
		if _, ok := content.(*os.File); !ok || err != nil {
			t.Errorf("a body that may not be lent: %T, %v", content, err)
		}
		takeAll(t, "room on disk beside the body", s.aside, maxAside-inMemory-1)
		if status, answer, h := ask(t, url, "GET", path, ""); status != map[bool]int{true: 503, false: 200}[i == 0] || status == 503 && (h.Get("Retry-After") == "" || !strings.Contains(answer, "read slowly")) {
			t.Errorf("%s without room on disk either: %d %.200q", path, status, answer)
		}
		done()
		s.aside.Release(maxAside - inMemory - 1)
		takeAll(t, "room on disk", s.aside, maxAside)
		s.aside.Release(maxAside)
		content, done, err = s.readable(make([]byte, inMemory))
		if _, ok := content.(*bytes.Reader); !ok || err != nil {
			t.Errorf("a small one: %T, %v", content, err)
		}
		done()
		s.lent.Release(maxLent)
	}
	takeAll(t, "what was lent", s.lent, maxLent)
	p, err := s.store.photo(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	s.photos.remove(t.Context(), s.log, p.Key)
	if status, answer, _ := ask(t, url, "GET", "/api/v1/categories/green/acts", ""); status != 200 || answer != "[]" { // what is kept has it yet
		t.Errorf("a page without memory: %d, %d bytes; it was not made anew", status, len(answer))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "uploads", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestLentMemoryComesBackFromWhatDoesNotFit: a page that was to be made in memory, and is
// longer than it seemed, is then read at its client's pace with nothing lent.
func TestLentMemoryComesBackFromWhatDoesNotFit(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	stocked(t, s, 60, []byte("hello"), strings.Repeat("\x01", 3500)) // each is six bytes in JSON
	const list = "/api/v1/categories/green/acts"
	takeAll(t, "room on disk", s.aside, maxAside)
	if status, answer, h := ask(t, url, "GET", list, ""); status != 503 || h.Get("Retry-After") == "" || !strings.Contains(answer, "read slowly") {
		t.Errorf("without room on disk for its texts: %d %.200q", status, answer)
	}
	s.aside.Release(maxAside)
	if status, answer, _ := ask(t, url, "GET", list, ""); status != 200 {
		t.Errorf("with room: %d %.200q", status, answer)
	}
	takeAll(t, "room on disk", s.aside, maxAside)
	s.aside.Release(maxAside)
	before := count(t, s, "acts_requests_total", "code=200")
	c := slowly(t, url, list)
	line := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, line); err != nil || string(line) != "HTTP/1.1 200" {
		t.Fatalf("%s, %v", line, err)
	}
	if !s.lent.TryAcquire(maxLent) {
		t.Error("it is lent to who reads slowly")
	}
	if n := count(t, s, "acts_requests_total", "code=200") - before; n != 0 {
		t.Error("it does not read slowly: the answer is out")
	}
}

// TestLongTextsWaitOnDisk while a list of them is sent: they are listed as ever.
func TestLongTextsWaitOnDisk(t *testing.T) {
	url := service(t, t.TempDir()).URL
	settled(t, url)
	const acts = 100
	want := map[int]string{}
	for id := range acts {
		want[id] = strings.Repeat(fmt.Sprintf("%d \\ \"ü\" \x01\n", id), 200)
		if id == 7 {
			want[id] = strings.Repeat("longer than a list holds ", 1000)
		}
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(id, map[string]any{"caption": want[id]})); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	for _, query := range []string{"", "?images=0"} {
		_, answer, _ := ask(t, url, "GET", "/api/v1/categories/green/acts"+query, "")
		var list []struct {
			ActID   int    `json:"actId"`
			Caption string `json:"caption"`
			ImgB64  string `json:"imgB64"`
		}
		if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list) != acts {
			t.Fatalf("%s: %d acts, %v: %.200s", query, len(list), err, answer)
		}
		for i, a := range list {
			if a.ActID != acts-1-i || a.Caption != want[a.ActID] || (a.ImgB64 == "aGVsbG8=") != (query == "") {
				t.Errorf("%s: the %dth is %d, %.40q with %q", query, i, a.ActID, a.Caption, a.ImgB64)
			}
		}
	}
}
