package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orch/scripts/lab"
)

// tree is a checkout as `make up` sees it, with the programs built: scripts/cluster is
// tried in it, on a network of its own.
type tree struct {
	t    *testing.T
	dir  string
	env  []string
	urls []string
}

func newTree(t *testing.T, engine string, nodes int) *tree {
	t.Helper()
	dir, err := os.MkdirTemp("", "up") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	put := func(from, to string, mode os.FileMode) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		b = regexp.MustCompile(`(?m)^image: .*`).ReplaceAll(b, []byte("image: "+programs.Image))
		to = filepath.Join(dir, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b, mode)); err != nil {
			t.Fatal(err)
		}
	}
	put("../cluster", "scripts/cluster", 0o755)
	put("../../deploy/acts.yaml", "deploy/acts.yaml", 0o644)
	if err := os.Symlink(programs.Dir, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	x := &tree{t: t, dir: dir, env: append(os.Environ(), fmt.Sprintf("NODES=%d", nodes), "ENGINE="+engine,
		fmt.Sprintf("NETWORK=127.%d.%d", 10+rand.IntN(240), rand.IntN(256)))}
	t.Cleanup(func() {
		if out, err := x.cluster("down"); err != nil {
			t.Errorf("%v\n%s", err, out)
			return // what is left is needed to take it down by hand
		}
		os.RemoveAll(dir)
	})
	return x
}

func (x *tree) cluster(what string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(x.dir, "scripts/cluster"), what)
	cmd.Env = x.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// up is `make up` without the build; each address that it prints has to answer, at once.
func (x *tree) up() {
	x.t.Helper()
	out, err := x.cluster("up")
	if err != nil {
		x.t.Fatalf("%v\n%s", err, out)
	}
	_, line, _ := strings.Cut(out, "The service answers on ")
	line, _, _ = strings.Cut(line, "\n")
	x.urls = strings.Fields(line)
	if !strings.Contains(out, "Up: ") || len(x.urls) == 0 {
		x.t.Fatalf("it does not say what to try:\n%s", out)
	}
	for _, url := range x.urls {
		q, err := http.NewRequestWithContext(x.t.Context(), http.MethodGet, url+"api/v1/categories", nil)
		if err != nil {
			x.t.Fatal(err)
		}
		q.Close = true
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			x.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK || resp.Header.Get("X-Orch-Container") == "" {
			x.t.Errorf("%s: %s by container %q", url, resp.Status, resp.Header.Get("X-Orch-Container"))
		}
	}
}

func (x *tree) pid(node int) int {
	x.t.Helper()
	b, err := os.ReadFile(filepath.Join(x.dir, fmt.Sprintf("run/node%d/pid", node)))
	if err != nil {
		x.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		x.t.Fatal(err)
	}
	return pid
}

// TestUpAndDown: the two commands of the README, on the Docker Engine and where there is
// none; what up has made, up again leaves alone or mends, and down ends.
func TestUpAndDown(t *testing.T) {
	engines := map[string]int{"process": 2}
	if programs.Engine == "docker" {
		engines["docker"] = 3
	}
	for engine, nodes := range engines {
		t.Run(engine, func(t *testing.T) {
			x := newTree(t, engine, nodes)
			x.up()
			if len(x.urls) != nodes {
				t.Errorf("%d nodes, and it prints %q", nodes, x.urls)
			}
			first, last := x.pid(1), x.pid(nodes)
			if err := syscall.Kill(last, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			x.up()
			if x.pid(1) != first || x.pid(nodes) == last {
				t.Errorf("after the loss of the last node: n1 was %d, is %d; the last was %d, is %d", first, x.pid(1), last, x.pid(nodes))
			}
			pids := []int{first, x.pid(nodes)}
			id, err := os.ReadFile(filepath.Join(x.dir, "run/node1/data/node.json"))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := x.cluster("down"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, pid := range pids {
				if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
					t.Errorf("process %d is there after down: %v", pid, err)
				}
			}
			if _, err := os.Stat(filepath.Join(x.dir, "run")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("run/ is there after down: %v", err)
			}
			x.nothingRuns(engine, id)
		})
	}
}

// nothingRuns: no container of the cluster is left, and no process that stands for one.
func (x *tree) nothingRuns(engine string, identity []byte) {
	x.t.Helper()
	m := regexp.MustCompile(`"cluster_id":\s*"([0-9a-f]+)"`).FindSubmatch(identity)
	if m == nil {
		x.t.Fatalf("no cluster in node.json: %s", identity)
	}
	if engine == "docker" {
		left, err := lab.Docker(x.t.Context(), "ps", "-aq", "--filter", "label=orch.cluster="+string(m[1]))
		if err != nil || left != "" {
			x.t.Errorf("containers after down: %q, %v", left, err)
		}
		return
	}
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil || len(exes) == 0 {
		x.t.Fatalf("%v: no process in /proc", err)
	}
	for _, exe := range exes {
		if program, err := os.Readlink(exe); err == nil && program == filepath.Join(programs.Dir, "acts") {
			x.t.Errorf("%s runs acts after down", exe)
		}
	}
}
