package acts

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpoolWithoutRoom fails until its end, though there be room again: something is
// missing from what it has.
func TestSpoolWithoutRoom(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for name, write := range map[string]func(x *spool) error{
		"a piece": func(x *spool) error { _, err := x.Write([]byte("x")); return err },
		"an item": func(x *spool) error { x.items = 1; return x.item("x", ":1") },
		"a text":  func(x *spool) error { return x.text("x") },
	} {
		x := &spool{dir: t.TempDir(), buf: bytes.Repeat([]byte{' '}, spoolInMemory), file: full}
		first := write(x)
		if !errors.Is(first, errStorage) {
			t.Errorf("%s: %v", name, first)
		}
		if x.file, err = os.CreateTemp(x.dir, ""); err != nil {
			t.Fatal(err)
		}
		if err := write(x); !errors.Is(err, errStorage) {
			t.Errorf("%s, with room again: %v", name, err)
		}
		var out bytes.Buffer
		if n, err := x.WriteTo(&out); n != 0 || out.Len() != 0 || !errors.Is(err, errStorage) {
			t.Errorf("%s: %d bytes of it came, %v", name, n, err)
		}
		x.Close()
	}
}

// TestListsWithoutRoom are 503, not cut off, where nothing of them has been sent yet.
func TestListsWithoutRoom(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	long := strings.Repeat("x", 2*spoolInMemory)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, map[string]any{"caption": long})); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	for path, body := range map[string]any{"/api/v1/categories": []string{long}, "/api/v1/users": map[string]string{"username": long, "password": hash}} {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if status, answer, _ := ask(t, url, "POST", path, string(b)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	there := s.spool
	for _, x := range []struct {
		dir    string
		status int
	}{{filepath.Join(there, "none"), 503}, {there, 200}} {
		s.spool = x.dir
		for _, path := range []string{"/api/v1/categories/green/acts", "/api/v1/categories", "/api/v1/users"} {
			if status, answer, h := ask(t, url, "GET", path, ""); status != x.status || status == 503 && h.Get("Retry-After") == "" || status == 200 && !strings.Contains(answer, long) {
				t.Errorf("%s: %d %.200s", path, status, answer)
			}
		}
	}
}

// TestBodiesWithoutRoom to wait in are 503, and read when there is room again.
func TestBodiesWithoutRoom(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	there := s.spool
	for _, x := range []struct {
		dir    string
		status int
		says   string
	}{{filepath.Join(there, "none"), 503, "no room"}, {there, 400, "body: is empty"}} {
		s.spool = x.dir
		for _, path := range []string{"/api/v1/users", "/api/v1/categories", "/api/v1/acts", "/api/v1/acts/upvote"} {
			if status, answer, h := ask(t, url, "POST", path, strings.Repeat(" ", inMemory+1)); status != x.status || !strings.Contains(answer, x.says) || status == 503 && h.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s %v", path, status, answer, h)
			}
		}
	}
}
