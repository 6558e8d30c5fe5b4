package main

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestRootsComeAlong: the image is FROM scratch, where no certificate is found; an
// https:// S3 and PostgreSQL with verify-full are believed by those in the program.
func TestRootsComeAlong(t *testing.T) {
	const child = "ACTS_TEST_ROOTS"
	if os.Getenv(child) != "" {
		pool, err := x509.SystemCertPool()
		if err != nil || pool.Equal(x509.NewCertPool()) {
			t.Fatalf("there are no roots: %v", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRootsComeAlong$")
	cmd.Env = append(os.Environ(), child+"=1", "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUsersURLAlone is enough to ask elsewhere; to serve users here too is refused.
func TestUsersURLAlone(t *testing.T) {
	env := func(string) string { return "" }
	ended, cancel := context.WithCancel(t.Context())
	cancel() // it ends as soon as it serves
	args := []string{"--listen", "127.0.0.1:0", "--data", t.TempDir(), "--users-url", "http://users.example"}
	var said strings.Builder
	if err := run(context.WithoutCancel(ended), append(args, "--serve", "all"), env, &said, &said); err == nil || !strings.Contains(err.Error(), "--users-url") {
		t.Errorf("--serve all with --users-url: %v", err)
	}
	if err := run(ended, args, env, &said, &said); err != nil && !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("--users-url alone: %v", err)
	}
}
