package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongFlagsAreNamed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--engine", "podman"}, `--engine "podman"`},
		{[]string{"--api-addr", "0.0.0.0:7480"}, "--api-addr"},
		{[]string{"--raft-addr", "192.0.2.1"}, "--raft-addr"},
		{[]string{"--profile", "moon", "--node-id", "N"}, "--node-id"},
		{[]string{"--log-level", "loud"}, "--log-level"},
		{[]string{"--log-format", "xml"}, "--log-format"},
		{[]string{"serve"}, "unknown command"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append(c.args, "--data-dir", t.TempDir()), &out, &out)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, &out, &out); err != nil || strings.TrimSpace(out.String()) != version {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestPurgeFindsItsNode in the data folder, whatever this machine is called.
func TestPurgeFindsItsNode(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := filepath.Join(t.TempDir(), "data")
	purge := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args, "purge", "--engine", "process", "--process-image", "acts=/bin/true", "--data-dir", dir), &out, &out)
		return out.String(), err
	}
	if out, err := purge(); err != nil || !strings.Contains(out, "nothing was removed") {
		t.Errorf("%q, %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(`{"cluster_id": "c", "node_id": "n7"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := purge(); err != nil || out != "removed 0 containers of node n7\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := purge("--node-id", "n8"); err == nil || !strings.Contains(err.Error(), "--node-id n7") {
		t.Errorf("as another node: %q, %v", out, err)
	}
}
