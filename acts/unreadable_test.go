package acts

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPhotosThatCanNotBeRead are an answer of 500 as long as nothing has been sent; then
// the answer is cut off, and counted as such.
func TestPhotosThatCanNotBeRead(t *testing.T) {
	const acts, size = 20, 300 << 10
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	paths := make([]string, acts)
	for id := range acts {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(id, size)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
		p, err := s.store.photo(t.Context(), int64(id))
		if err != nil {
			t.Fatal(err)
		}
		paths[id] = filepath.Join(s.photos.dir, filepath.FromSlash(p.Key))
	}
	const list, image = "/api/v1/categories/green/acts", "/api/v1/acts/%d/image"
	fails := func(path string) {
		t.Helper()
		if status, answer, h := ask(t, url, "GET", path, ""); status != 500 || !strings.Contains(answer, `"code":500`) || h.Get("Content-Type") != "application/json" || h.Get("ETag") != "" {
			t.Errorf("GET %s: %d %.200s %v", path, status, answer, h)
		}
	}
	cut := func(path string, meanwhile func()) {
		t.Helper()
		before := count(t, s, "acts_requests_total", "code=599")
		c := slowly(t, url, path)
		from := bufio.NewReader(c)
		if _, err := from.ReadByte(); err != nil {
			t.Fatal(err)
		}
		from.UnreadByte()
		meanwhile()
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("GET %s: %s, %d bytes, %v; want an answer that is cut off", path, resp.Status, n, err)
		}
		if n := count(t, s, "acts_requests_total", "code=599") - before; n != 1 {
			t.Errorf("GET %s: %v are counted as cut off", path, n)
		}
	}
	replace := func(path string, by func(string) error) {
		t.Helper()
		if err := errors.Join(os.Remove(path), by(path)); err != nil {
			t.Fatal(err)
		}
	}
	loop := func(path string) error { return os.Symlink(path, path) }                // can not be opened, and is there
	nothing := func(path string) error { return os.Symlink("/proc/self/mem", path) } // can be opened, and not read
	cut(fmt.Sprintf(image, acts-1), func() {
		if err := os.Truncate(paths[acts-1], 0); err != nil {
			t.Fatal(err)
		}
	})
	fails(fmt.Sprintf(image, acts-1)) // too short from the start
	fails(list)
	restore := func() {
		if err := os.WriteFile(paths[acts-1], noise(acts-1, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	cut(list, func() {
		if err := os.Truncate(paths[acts-1], 0); err != nil {
			t.Fatal(err)
		}
	})
	restore()
	for _, path := range paths[:acts-2] { // the latest come first
		replace(path, loop)
	}
	cut(list, func() {})
	fails(fmt.Sprintf(image, 0))
	for _, path := range paths[acts-2:] {
		replace(path, loop)
	}
	fails(list)
	fails(list + "?start=1&end=1")
	replace(paths[acts-1], nothing)
	fails(list)
	if status, answer, _ := ask(t, url, "GET", list+"?images=0", ""); status != 200 {
		t.Errorf("without photos: %d %s", status, answer)
	}
	if n := count(t, s, "acts_requests_total", "code=500"); n != 6 {
		t.Errorf("%v are counted as 500", n)
	}
}

// TestPhotosThatAreAwayForAWhile are not given in part, and what was given without them is
// not kept.
func TestPhotosThatAreAwayForAWhile(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	url := serving(t, s).URL
	settled(t, url)
	const acts, size, list, image = 2, 10 << 10, "/api/v1/categories/green/acts", "/api/v1/acts/1/image"
	for id := range acts {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(id, size)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	p, err := s.store.photo(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.photos.dir, filepath.FromSlash(p.Key))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if status, answer, _ := ask(t, url, "GET", list, ""); status != 200 || strings.Count(answer, "actId") != acts-1 {
		t.Errorf("without a photo: %d %.200s", status, answer)
	}
	whole := noise(1, size)
	if err := os.WriteFile(path, whole[:size/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{image, list} {
		if status, answer, h := ask(t, url, "GET", what, ""); status != 500 || h.Get("ETag") != "" {
			t.Errorf("%s with half a photo: %d, %d bytes, %v", what, status, len(answer), h)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, answer, _ := ask(t, url, "GET", list, ""); status != 200 || strings.Count(answer, "actId") != acts || !strings.Contains(answer, base64.StdEncoding.EncodeToString(whole)) {
		t.Errorf("with the photo back: %d, %d bytes", status, len(answer))
	}
	if status, answer, _ := ask(t, url, "GET", image, ""); status != 200 || len(answer) < size-100 { // ask trims it
		t.Errorf("the photo that is back: %d, %d bytes", status, len(answer))
	}
}
