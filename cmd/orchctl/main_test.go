package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ctl runs the command and returns what it printed and its error.
func ctl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, &out, &out)
	return out.String(), err
}

// answering is a node's socket at path that answers each path with a body.
func answering(t *testing.T, path string, bodies map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := bodies[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			body = `{"error":{"code":"no_leader","message":"no leader was found"}}`
		}
		w.Write([]byte(body))
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

const row = `[{"service":"acts","number":3,"node":"n1","addr":"127.0.0.1:8002","port":8002,"status":false,"turn":1,"generation":2,"phase":"pending","image":"acts:1","reason":"exit code 1"}]`

// TestFindsItsNode below the current folder, past a socket that nobody answers.
func TestFindsItsNode(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("ORCH_ADDR", "")
	if _, err := ctl(t, "ps"); err == nil || !strings.Contains(err.Error(), "make up") {
		t.Errorf("with no node at all: %v", err)
	}
	if err := os.MkdirAll("run/node1", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("run/node1/orchd.sock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	answering(t, "run/node2/orchd.sock", map[string]string{"/-/healthy": "{}", "/v1/ps": row})
	out, err := ctl(t, "ps")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || strings.Join(strings.Fields(lines[0]), " ") != "CONTAINER NODE PORT STATUS TURN GENERATION PHASE IMAGE REASON" ||
		strings.Join(strings.Fields(lines[1]), " ") != "acts/3 n1 8002 False 1 2 pending acts:1 exit code 1" {
		t.Errorf("ps printed\n%s", out)
	}
	t.Setenv("ORCH_ADDR", filepath.Join("run", "node2", "orchd.sock"))
	if out, err := ctl(t, "ps", "-o", "json"); err != nil || !strings.Contains(out, `"addr": "127.0.0.1:8002"`) {
		t.Errorf("ps -o json: %v\n%s", err, out)
	}
	if _, err := ctl(t, "scale", "acts", "3"); err == nil || err.Error() != "no leader was found" {
		t.Errorf("an error of the node: %v", err)
	}
}

func TestWrongWordsAreRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ps", "-o", "xml"}, "choose table or json"},
		{[]string{"scale", "acts", "many"}, "auto"},
		{[]string{"scale", "acts", "0"}, "auto"},
		{[]string{"scale", "acts"}, "2 arg"},
		{[]string{"apply"}, "file"},
		{[]string{"apply", "-f", "none.yaml"}, "none.yaml"},
		{[]string{"dance"}, "unknown command"},
		{[]string{"--addr", "/nowhere/s", "ps"}, "is orchd running there?"},
		{[]string{"--addr", "127.0.0.1:1", "ps"}, "orchctl login"},
	} {
		if _, err := ctl(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}
