// Package local is what the tests of any room may need of this machine: folders in memory,
// and servers of others, which are the real programs.
//
// It promises that they end with the test. It knows nothing of ours, so that any test may
// import it.
package local

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// gateway of S3: a real server over a folder, from the Go module proxy.
const gateway = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// S3 builds and starts a server with an empty bucket, and has the environment hold the
// credentials for it. It returns the bucket's URL, as --photos and --snapshot-to want it,
// and the folder that the server keeps it in. Where it cannot be built the test is
// skipped, but not in CI.
func S3(t *testing.T) (url, folder string) {
	t.Helper()
	bin := t.TempDir()
	// Unlike 'go install', 'go run' keeps the linked program in Go's build cache: the next
	// test to want it waits for no linker. What it runs is a copy of the program to here.
	build := exec.Command("go", "run", "-exec", "cp", gateway, bin)
	build.Env = append(os.Environ(), "GOFLAGS=-trimpath", "CGO_ENABLED=0") // as Go's cache has the standard library
	build.Dir = bin                                                        // outside of this module
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build %s: %v\n%s", gateway, err, out)
		}
		t.Skipf("build %s: %v\n%s", gateway, err, out)
	}
	root := t.TempDir()
	folder = filepath.Join(root, "data", "bucket")
	for _, d := range []string{folder, filepath.Join(root, "meta")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const access, secret = "tester", "a-secret-of-the-test"
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	addr := FreeAddr(t)
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
	return "s3://bucket?region=us-east-1&use_path_style=true&endpoint=http://" + addr, folder
}

// FreeAddr is an address that nobody listens on now.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0") // not where tests listen, and may be given the port
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
