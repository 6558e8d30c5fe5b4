package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestSnapshotIntoANewCluster: all nodes are lost, and what is left is a file that the
// leader wrote on its schedule and a copy of the cluster's key. Word for word as
// docs/operations.md has it: without the key the restore is refused, with it the services
// run again as they did, the secret in their environment too.
func TestSnapshotIntoANewCluster(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	// typed runs a command that stands on the page; there is no terminal to be asked at.
	typed := func(ctx context.Context, n *lab.Node, command string) (string, error) {
		t.Helper()
		if !bytes.Contains(page, []byte("\n    orchctl "+command+" ")) {
			t.Errorf("docs/operations.md does not say 'orchctl %s': let the page and this test be the same", command)
		}
		return n.Ctl(ctx, append(strings.Fields(command), "--yes")...)
	}
	t.Chdir(t.TempDir())
	var lost string
	t.Run("save", func(t *testing.T) { lost = savesWithSecret(t, "monday.snap", "cluster.key") })
	if lost == "" {
		t.FailNow()
	}
	c, ctx := cluster(t, 1, "")
	n := c.Nodes[0]
	s, err := n.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out, err := typed(ctx, n, "snapshot restore monday.snap")
	if want := fmt.Sprintf("acts secret_env.ACTS_X: sealed by cluster %s, so that cluster %s can not open it: give that cluster's key with --cluster-key FILE", lost, s.ClusterID); err == nil || !strings.Contains(out, want) {
		t.Errorf("without the key: %v\n%s\nwant %q", err, out, want)
	}
	if s, err = n.Status(ctx); err != nil || len(s.Services) != 0 {
		t.Fatalf("the refusal has changed something: %+v, %v", s, err)
	}
	for _, want := range []string{"1 services restored", "0 services restored"} {
		if out, err = typed(ctx, n, "snapshot restore monday.snap --cluster-key cluster.key"); err != nil || !strings.Contains(out, want) || strings.Contains(out, secret) {
			t.Fatalf("want %q: %v\n%s", want, err, out)
		}
	}
	rows, err := n.Healthy(within(t, ctx, 60*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		given(t, ctx, r, "ACTS_X="+secret)
	}
	if out, err = n.Ctl(ctx, "snapshot", "restore", "by-hand.snap", "--cluster-key", "cluster.key", "--yes"); err != nil || !strings.Contains(out, "0 services restored") {
		t.Errorf("the file that was saved by hand holds something else: %v\n%s", err, out)
	}
}

// savesWithSecret runs a cluster whose service has a secret and was scaled by hand. It
// leaves the file of a schedule, one that was saved by hand, and the cluster's key; it
// returns the ID of that cluster.
func savesWithSecret(t *testing.T, file, key string) string {
	c, ctx := cluster(t, 1, withSecret(spec(1, 4), secret))
	n := c.Nodes[0]
	if _, err := n.Ctl(ctx, "scale", "acts", "2"); err != nil {
		t.Fatal(err)
	}
	rows, err := n.Healthy(within(t, ctx, 60*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	given(t, ctx, rows[0], "ACTS_X="+secret)
	if _, err := n.Ctl(ctx, "snapshot", "save", "by-hand.snap"); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	kept, err := filepath.Abs("kept")
	if err != nil {
		t.Fatal(err)
	}
	n.Extra = []string{"--snapshot-to=" + kept, "--snapshot-every=10s", "--snapshot-keep=2"}
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var scheduled []string
	err = lab.Until(within(t, ctx, 30*time.Second), 100*time.Millisecond, func() (err error) {
		scheduled, err = filepath.Glob(filepath.Join(kept, "orch-*.snap"))
		if err == nil && len(scheduled) == 0 {
			err = fmt.Errorf("nothing in %s", kept)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(scheduled[0], file); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{file, "by-hand.snap"} {
		if out, err := n.Ctl(ctx, "snapshot", "inspect", f); err != nil || !strings.Contains(out, "2 by hand") {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, []byte(secret)) {
			t.Errorf("the secret is in %s, %v", f, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(n.Dir, "data", "cluster.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := n.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s.ClusterID
}

// secret is a value of secret_env.
const secret = "s3cr3t-c0ffee-value"

// withSecret is a spec with a value of ACTS_X that is secret.
func withSecret(spec, value string) string {
	return strings.Replace(spec, "env:", "secret_env: {ACTS_X: "+value+"}\nenv:", 1)
}

// given looks whether the container of a row was given an environment variable.
func given(t *testing.T, ctx context.Context, r lab.Row, variable string) {
	t.Helper()
	if programs.Engine != "docker" {
		return
	}
	id, err := lab.ContainerID(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if env, err := lab.Docker(ctx, "inspect", "-f", "{{.Config.Env}}", id); err != nil || !strings.Contains(env, variable) {
		t.Errorf("container %d was not given %s: %v, %s", r.Number, variable, err, env)
	}
}
