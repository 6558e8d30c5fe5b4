package acts

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// noise is n bytes that are another photo for each id.
func noise(id int, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(id), byte(id >> 8), byte(id >> 16)})
	r.Read(b)
	return b
}

// noisyAct is an upload with such a photo.
func noisyAct(id, n int) string {
	return anAct(id, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(noise(id, n))})
}

// blobs are all files in the folder of photos, those that no list of the bucket has too.
func blobs(t testing.TB, dir string) (keys []string) {
	t.Helper()
	root := filepath.Join(dir, "photos")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			key, _ := filepath.Rel(root, path)
			_, below, _ := strings.Cut(key, "/") // the name of the database
			keys = append(keys, below)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}

// kept are the photos of all acts of a category, each held to the bytes that were sent.
func kept(t testing.TB, s *Service, category string, size int) (ids []int64, keys []string) {
	t.Helper()
	list, err := s.store.newest(t.Context(), category, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		b, err := s.photos.bucket.ReadAll(t.Context(), a.Photo.Key)
		if err != nil || !bytes.Equal(b, noise(int(a.ID), size)) {
			t.Errorf("act %d has not its photo: %d bytes, %v", a.ID, len(b), err)
		}
		ids, keys = append(ids, a.ID), append(keys, a.Photo.Key)
	}
	slices.Sort(keys)
	return ids, keys
}

// TestKilledInTheMiddle of uploads, three times: each act that is there has its photo,
// each that was promised is there, and after a sweep no other file is.
func TestKilledInTheMiddle(t *testing.T) {
	const size, senders, each = 300 << 10, 8, 40
	path, dir := program(t), t.TempDir()
	var next, swept atomic.Int64
	var mu sync.Mutex
	promised := map[int64]bool{}
	for round := range 3 {
		p := start(t, path, nil, "--data", dir)
		if round == 0 {
			settled(t, p.url)
		}
		client := &http.Client{Timeout: 20 * time.Second}
		var wg sync.WaitGroup
		enough, done := make(chan struct{}), atomic.Int64{}
		for range senders {
			wg.Go(func() {
				for {
					id := next.Add(1)
					resp, err := client.Post(p.url+"/api/v1/acts", "application/json", strings.NewReader(noisyAct(int(id), size)))
					if err != nil { // killed
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 201 {
						t.Errorf("act %d: %s", id, resp.Status)
						return
					}
					mu.Lock()
					promised[id] = true
					mu.Unlock()
					if done.Add(1) == each {
						close(enough)
					}
				}
			})
		}
		<-enough
		p.kill()
		wg.Wait()
		client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		swept.Add(sweptClean(t, dir, size, promised))
	}
	t.Logf("%d uploads promised, %d files without an act swept", len(promised), swept.Load())
}

func sweptClean(t *testing.T, dir string, size int, promised map[int64]bool) int64 {
	s := opened(t, Config{Data: dir})
	ids, keys := kept(t, s, "green", size)
	for id := range promised {
		if !slices.Contains(ids, id) {
			t.Errorf("act %d was answered 201 and is gone", id)
		}
	}
	orphan := newKey() // one at least that the sweep has to find
	if err := s.photos.put(t.Context(), orphan, "", []byte("left behind")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.photos.sweep(t.Context(), s.store, time.Now(), time.Hour); n != 0 || err != nil {
		t.Errorf("a sweep with grace removed %d young files, %v", n, err)
	}
	n, err := s.photos.sweep(t.Context(), s.store, time.Now().Add(time.Second), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := blobs(t, dir); !slices.Equal(got, keys) {
		t.Errorf("after the sweep there are %d files and %d acts", len(got), len(keys))
	}
	return int64(n)
}

// TestRefusedUploadsLeaveNoPhoto at once, without a sweep.
func TestRefusedUploadsLeaveNoPhoto(t *testing.T) {
	dir := t.TempDir()
	url := service(t, dir).URL
	settled(t, url)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, nil)); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	before := blobs(t, dir)
	if len(before) != 1 {
		t.Fatalf("one act, and the files %v", before)
	}
	big := base64.StdEncoding.EncodeToString(noise(9, 200<<10))
	for name, edits := range map[string]map[string]any{
		"the same actId": {"actId": 1}, "user": {"username": "nobody"}, "category": {"categoryName": "none"}, "timestamp": {"timestamp": "30-02-2019:05-04-03"},
		"base64": {"imgB64": "aGVsbG8"}, "upvotes": {"upvotes": 1}, "the same actId, large": {"actId": 1, "imgB64": big}, "user, large": {"username": "nobody", "imgB64": big},
	} {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(2, edits)); status != 400 {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		if after := blobs(t, dir); !slices.Equal(after, before) {
			t.Errorf("%s: left %v", name, after)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "uploads", "*")); len(left) > 0 {
		t.Errorf("bodies left: %v", left)
	}
}

// TestRemovedAndAddedAgain under one number: the photo before is never served, by
// neither of two processes with caches of their own.
func TestRemovedAndAddedAgain(t *testing.T) {
	dir := t.TempDir()
	urls := []string{service(t, dir).URL, service(t, dir).URL}
	settled(t, urls[0])
	var tag string
	for i := range 10 {
		photo := fmt.Sprintf("photo %d", i)
		if status, answer, _ := ask(t, urls[i%2], "POST", "/api/v1/acts", anAct(7, map[string]any{"imgB64": base64.StdEncoding.EncodeToString([]byte(photo))})); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
		for _, url := range urls {
			req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/api/v1/acts/7/image", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("If-None-Match", tag)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || string(b) != photo {
				t.Errorf("%q: %s %q, %v", photo, resp.Status, b, err)
			}
			if url == urls[1] {
				tag = resp.Header.Get("ETag")
			}
			if _, list, _ := ask(t, url, "GET", "/api/v1/categories/green/acts", ""); !strings.Contains(list, base64.StdEncoding.EncodeToString([]byte(photo))) {
				t.Errorf("%q is not in %s", photo, list)
			}
		}
		if status, answer, _ := ask(t, urls[(i+1)%2], "DELETE", "/api/v1/acts/7", ""); status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
		for _, url := range urls {
			if status, _, _ := ask(t, url, "GET", "/api/v1/acts/7/image", ""); status != 404 {
				t.Errorf("removed: %d", status)
			}
		}
	}
	if left := blobs(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestGoneClient: who hangs up in the middle leaves nothing that a sweep does not take,
// and no act without a photo.
func TestGoneClient(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	url := serving(t, s).URL
	settled(t, url)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", url+"/api/v1/acts", strings.NewReader(noisyAct(i, 100<<10)))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; { // some are still being answered
		_, keys := kept(t, s, "green", 100<<10)
		if _, err := s.photos.sweep(t.Context(), s.store, time.Now().Add(time.Second), 0); err != nil {
			t.Fatal(err)
		}
		if got := blobs(t, dir); slices.Equal(got, keys) {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d files, %d acts", len(got), len(keys))
		}
	}
}
