package main

import (
	"bytes"
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
