package acts

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"gocloud.dev/blob"
)

// gateway of S3: a real server over a folder, from the Go module proxy.
const gateway = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// s3Server builds and starts one with an empty bucket; it returns what --photos wants.
// Where it cannot be built the test is skipped, but not in CI.
func s3Server(t *testing.T) (url, folder string) {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "install", gateway)
	build.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	build.Dir = bin // outside of this module
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("go install %s: %v\n%s", gateway, err, out)
		}
		t.Skipf("go install %s: %v\n%s", gateway, err, out)
	}
	root := t.TempDir()
	folder = filepath.Join(root, "data", "photos")
	for _, d := range []string{folder, filepath.Join(root, "meta")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const access, secret = "tester", "a-secret-of-the-test"
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	addr := freeAddr(t)
	cmd := exec.Command(filepath.Join(bin, "versitygw"), "--quiet", "--port", addr, "--region", "us-east-1", "posix", "--sidecar", filepath.Join(root, "meta"), filepath.Join(root, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access, "ROOT_SECRET_KEY="+secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Logf("%s", said.Bytes())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return "s3://photos?region=us-east-1&use_path_style=true&endpoint=http://" + addr, folder
}

// freeAddr is an address that nobody listens on now.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestPhotosInS3 over a real server: stored, read, removed, swept, and all of the
// contract by two processes.
func TestPhotosInS3(t *testing.T) {
	url, folder := s3Server(t)
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
