package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestFullDisk: the leader's disk is full. It steps down, goes on serving, says so, and
// takes part again by itself when there is room.
func TestFullDisk(t *testing.T) {
	c, ctx, leader, small := withSmallDisk(t, 3)
	err := lab.Until(within(t, ctx, 20*time.Second), 100*time.Millisecond, func() error {
		_, err := leader.Ctl(ctx, "transfer", small.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	free := fillDisk(t, small)
	impaired := func(want bool) { impairment(t, ctx, c, small, want) }
	impaired(true)
	err = lab.Until(within(t, ctx, 20*time.Second), 50*time.Millisecond, func() error {
		if now, err := c.Leader(ctx); err != nil || now == small {
			return fmt.Errorf("leader is %+v (%v)", now, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		resp, err := c.HTTP.Get(small.URL("/api/v1/categories"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("with a full disk it answers %s", resp.Status)
		}
	}
	free()
	impaired(false)
}

// TestDrainOfANodeWithAFullDisk, which hears of nothing by its log: its containers move
// one after the other, end there, and no request fails, on that node neither.
func TestDrainOfANodeWithAFullDisk(t *testing.T) {
	c, ctx, leader, small := withSmallDisk(t, 6)
	var before []lab.Row
	err := lab.Until(within(t, ctx, 90*time.Second), 50*time.Millisecond, func() error {
		rows, err := leader.PS(ctx)
		if before = rowsOn(rows, small.ID); err == nil && len(before) != 2 {
			err = fmt.Errorf("%d rows on %s", len(before), small.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	free := fillDisk(t, small)
	impairment(t, ctx, c, small, true)
	stop, load := loading(t, ctx, c.Nodes)
	began := time.Now()
	if out, err := leader.Ctl(ctx, "drain", small.ID, "--deadline", "5m"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	err = lab.Until(within(t, ctx, 60*time.Second), 50*time.Millisecond, func() error {
		rows, err := leader.PS(ctx)
		if err == nil && len(rowsOn(rows, small.ID)) > 0 {
			err = fmt.Errorf("still there: %+v", rowsOn(rows, small.ID))
		}
		if err == nil {
			err = allOf(rows, 6, programs.Image)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("drained after %s", time.Since(began).Round(time.Millisecond))
	if out, err := small.Ctl(ctx, "ps"); err != nil || strings.Contains(out, " "+small.ID+" ") {
		t.Errorf("the node itself knows nothing of it: %v\n%s", err, out)
	}
	stop()
	for _, f := range load.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}
	free()
	impairment(t, ctx, c, small, false)
}

// withSmallDisk is a cluster of three with so many containers, its leader, and a node that
// does not lead and has its data on a small disk.
func withSmallDisk(t *testing.T, containers int) (c *lab.Cluster, ctx context.Context, leader, small *lab.Node) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("a small disk can only be mounted by root")
		}
		t.Skip("a small disk can only be mounted by root")
	}
	c, ctx = cluster(t, 3, spec(containers, containers))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), containers); err != nil {
		t.Fatal(err)
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	small = c.Nodes[0]
	if small == leader {
		small = c.Nodes[1]
	}
	restartOnSmallDisk(t, ctx, c, small)
	return c, ctx, leader, small
}

// restartOnSmallDisk moves a node's data to a small disk.
func restartOnSmallDisk(t *testing.T, ctx context.Context, c *lab.Cluster, small *lab.Node) {
	t.Helper()
	if err := small.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	ontoSmallDisk(t, small, filepath.Join(small.Dir, "data"))
	if err := small.Start(ctx); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
}

// fillDisk leaves no room beside a node's data until the function it returns is called.
func fillDisk(t *testing.T, small *lab.Node) (free func()) {
	t.Helper()
	fill := filepath.Join(small.Dir, "data", "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, zeros{})
	f.Close() // open, it would hold its room after its removal
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	return func() {
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
	}
}

var fenced = regexp.MustCompile(`IMPAIRED\s+fenced`)

// impairment waits until a node says that it is fenced, or that it is not.
func impairment(t *testing.T, ctx context.Context, c *lab.Cluster, n *lab.Node, want bool) {
	t.Helper()
	err := lab.Until(within(t, ctx, 40*time.Second), 50*time.Millisecond, func() error {
		// Something to write: the log of a cluster at rest needs no room.
		resp, err := c.HTTP.Get(c.Nodes[2].URL("/api/v1/categories"))
		if err != nil {
			return err
		}
		resp.Body.Close()
		out, err := n.Ctl(ctx, "status")
		if err == nil && fenced.MatchString(out) != want {
			err = fmt.Errorf("impaired by a fence is not %v:\n%s", want, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ontoSmallDisk copies a node's data to a file system of 32 MiB mounted over it; at the
// end the old data is put back, by which the node's containers are found and removed.
func ontoSmallDisk(t *testing.T, n *lab.Node, dir string) {
	t.Helper()
	aside := dir + ".aside"
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Kill()
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		if err = errors.Join(err, os.Remove(dir), os.Rename(aside, dir)); err != nil {
			t.Error(err)
		}
	})
	if err := os.CopyFS(dir, os.DirFS(aside)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
