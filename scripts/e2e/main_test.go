// Package e2e tests the real programs together: orchd, orchctl and acts as
// processes, containers on the real Docker Engine, requests over port 80.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// programs are built once for all tests; TestMain is their owner.
var programs *lab.Programs

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs("../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs, err = lab.Build(ctx, root, dir, true)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer programs.Close()
	return m.Run()
}

// spec of acts with a fixed number of containers; more lines may follow.
func spec(minimum, maximum int) string {
	return fmt.Sprintf(`name: acts
image: IMAGE
user: "10001:10001"
env: {ACTS_DATA: /data}
volumes: [{name: acts, target: /data}]
resources: {memory_mib: 256}
expose_internal: true
debug_headers: true
scale: {min: %d, max: %d}
`, minimum, maximum)
}

// cluster starts n nodes with acts on them and takes all down at the end; where
// the test has failed it shows each node's last lines first. flags are further ones of
// each node.
func cluster(t *testing.T, n int, yaml string, flags ...string) (*lab.Cluster, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	// Not t.TempDir(): a unix socket's path has at most 108 bytes.
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	c := lab.New(programs, dir, n)
	for _, n := range c.Nodes {
		n.Extra = flags
	}
	takeDown(t, c)
	path := ""
	if yaml != "" {
		if path, err = c.Spec("acts", yaml); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Up(ctx, path); err != nil {
		t.Fatal(err)
	}
	return c, ctx
}

// takeDown ends a cluster with its test, and removes its folder.
func takeDown(t *testing.T, c *lab.Cluster) {
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("last lines of %s:\n%s", n.ID, n.Log(40))
			}
		}
		if err := c.Down(); err != nil {
			t.Error(err)
		}
		for _, n := range c.Nodes { // orchd is built with the race detector
			log, err := os.ReadFile(n.LogFile())
			if i := strings.Index(string(log), "WARNING: DATA RACE"); err == nil && i >= 0 {
				t.Errorf("%s:\n%.4000s", n.ID, log[i:])
			}
		}
		os.RemoveAll(c.Dir)
	})
}

// within gives a step of a test a deadline of its own.
func within(t *testing.T, ctx context.Context, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}
