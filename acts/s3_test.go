package acts

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gocloud.dev/blob"

	"orch/scripts/local"
)

// TestPhotosInS3 over a real server: stored, read, removed, swept, and all of the
// contract by two processes.
func TestPhotosInS3(t *testing.T) {
	url, folder := local.S3(t)
	dir := t.TempDir()
	s := opened(t, Config{Data: dir, Photos: url})
	at := serving(t, s).URL
	settled(t, at)
	for id, size := range []int{0, 1, 300 << 10, cachedPhoto + 1, 9 << 20} {
		if status, answer, _ := ask(t, at, "POST", "/api/v1/acts", noisyAct(id, size)); status != 201 {
			t.Fatalf("%d bytes: %d %s", size, status, answer)
		}
		p, err := s.store.photo(t.Context(), int64(id))
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.photos.bucket.ReadAll(t.Context(), p.Key)
		if err != nil || !bytes.Equal(b, noise(id, size)) {
			t.Errorf("%d bytes: %d came back, %v", size, len(b), err)
		}
		resp, err := http.Get(fmt.Sprintf("%s/api/v1/acts/%d/image", at, id))
		if err != nil || resp.ContentLength != int64(size) {
			t.Fatalf("%d bytes are served as %d, %v", size, resp.ContentLength, err)
		}
		resp.Body.Close()
	}
	if _, err := os.Stat(filepath.Join(dir, "photos")); err == nil {
		t.Error("there are photos in the data folder too")
	}
	ids := []int64{2, 3}
	for _, id := range []int{0, 1, 4} {
		if status, answer, _ := ask(t, at, "DELETE", fmt.Sprintf("/api/v1/acts/%d", id), ""); status != 200 {
			t.Errorf("%d %s", status, answer)
		}
	}
	for range 250 { // more than a batch of the sweep
		if err := s.photos.put(t.Context(), newKey(), "image/png", []byte("left behind")); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.photos.sweep(t.Context(), s.store, time.Now(), time.Hour); n != 0 || err != nil {
		t.Errorf("a sweep with grace removed %d, %v", n, err)
	}
	if n, err := s.photos.sweep(t.Context(), s.store, time.Now().Add(2*time.Second), 0); n != 250 || err != nil {
		t.Errorf("swept %d of 250, %v", n, err)
	}
	var keys, have []string
	for _, id := range ids {
		p, err := s.store.photo(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, p.Key)
	}
	slices.Sort(keys)
	for it := s.photos.bucket.List(&blob.ListOptions{}); ; {
		o, err := it.Next(t.Context())
		if err != nil {
			break
		}
		have = append(have, o.Key)
	}
	if !slices.Equal(have, keys) {
		t.Errorf("the bucket has %v, the acts %v", have, keys)
	}
	name, err := s.store.name(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, name, filepath.FromSlash(keys[0]))); err != nil {
		t.Errorf("it is not the server's: %v", err)
	}
	t.Run("contract", func(t *testing.T) {
		dir := t.TempDir()
		contractOver(t, Config{Data: dir, Photos: url}, Config{Data: dir, Photos: url})
	})
}
