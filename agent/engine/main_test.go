package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// served is the test service: its executable, and its image where a Docker Engine
// is there.
type served struct {
	binary string
	image  string // empty without a Docker Engine
	run    string // label value of this test run
	addr   string // a loopback address that other tests' connections do not use up
}

var built served

func TestMain(m *testing.M) {
	clean, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine test:", err)
		clean()
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "engine test:", err)
			code = 1
		}
	}
	clean()
	os.Exit(code)
}

// build makes the executable and the image; clean removes both.
func build() (clean func(), err error) {
	clean = func() {}
	dir, err := os.MkdirTemp("", "engine-test")
	if err != nil {
		return clean, err
	}
	clean = func() { os.RemoveAll(dir) }
	// Other users run it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return clean, err
	}
	var id [4]byte
	rand.Read(id[:])
	built = served{binary: filepath.Join(dir, "served"), run: hex.EncodeToString(id[:])}
	built.addr = fmt.Sprintf("127.%d.%d.%d", 100+id[0]%100, id[1], 1+id[2]%254)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", built.binary, "./testdata/served")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return clean, fmt.Errorf("build the test service: %w\n%s", err, out)
	}
	if exec.Command("docker", "version").Run() != nil {
		if os.Getenv("CI") == "true" {
			return clean, fmt.Errorf("no Docker Engine answers: the contract must be proved on one")
		}
		return clean, nil
	}
	dockerfile := "FROM scratch\nCOPY served /served\nENTRYPOINT [\"/served\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return clean, err
	}
	image := "orch-engine-test:" + built.run
	if out, err := exec.Command("docker", "build", "-q", "-t", image, dir).CombinedOutput(); err != nil {
		return clean, fmt.Errorf("build the test image: %w\n%s", err, out)
	}
	built.image = image
	return func() {
		// What a failed test left behind, by this run's label alone.
		out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=orch.test="+built.run).Output()
		if ids := strings.Fields(string(out)); err == nil && len(ids) > 0 {
			err = exec.Command("docker", append([]string{"rm", "-f"}, ids...)...).Run()
		}
		if err == nil {
			err = exec.Command("docker", "rmi", "-f", image).Run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "engine test: clean up:", err)
		}
		os.RemoveAll(dir)
	}, nil
}

// docker runs the operator's command, as somebody outside would.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// newDockerT is the real engine; without one the test is skipped (CI refuses in
// TestMain).
func newDockerT(t *testing.T) *Docker {
	t.Helper()
	if built.image == "" {
		t.Skip("no Docker Engine here")
	}
	d, err := NewDocker("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
