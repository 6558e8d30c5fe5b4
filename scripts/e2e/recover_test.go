package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestRecover: three of five nodes are lost for good. 'orchctl recover' shows what is
// there, changes nothing unasked, and makes a cluster of the two that are left, under
// load without a failed request; a node that was left behind stands aside when it comes
// back, and joins anew.
func TestRecover(t *testing.T) {
	c, ctx := cluster(t, 5, spec(2, 6))
	first := c.Nodes[0]
	if _, err := first.Healthy(within(t, ctx, 60*time.Second), 2); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	survivors, lost := c.Nodes[:2], c.Nodes[2:]
	for _, n := range lost {
		n.Kill()
	}
	for _, n := range survivors {
		leaderless(t, ctx, n)
	}
	stop, load := loading(t, ctx, survivors)

	n := holder(t, ctx, survivors)
	out, err := n.Ctl(ctx, "recover")
	for _, want := range []string{"nothing was done: give --yes", "WOULD", "set its log aside and follow", "be left behind"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("the preview lacks %q: %v\n%s", want, err, out)
		}
	}
	if s, err := n.Status(ctx); err != nil || s.Quorum {
		t.Fatalf("a preview has changed something: %+v, %v", s, err)
	}
	if out, err = n.Ctl(ctx, "recover", "--yes"); err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	other := survivors[0]
	if other == n {
		other = survivors[1]
	}
	roles(t, ctx, n, map[string]string{n.ID: "leader", other.ID: "voter"})
	for _, x := range []*lab.Node{n, other} {
		if _, err := x.Ctl(ctx, "scale", "acts", "4"); err != nil {
			t.Error(err)
		}
	}
	for _, x := range []*lab.Node{n, other} {
		if _, err := x.Healthy(within(t, ctx, 60*time.Second), 4); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if bad := load.Failures(); len(bad) > 0 || load.OK.Load() == 0 {
		t.Errorf("%d requests failed of %d, first %+v", len(bad), load.OK.Load(), bad[0])
	}

	comesBack(t, ctx, lost[0], n, other)
}

// comesBack starts a node with the log of before, which must not be heard, and has it
// join anew.
func comesBack(t *testing.T, ctx context.Context, old, leader, other *lab.Node) {
	t.Helper()
	if err := old.Start(ctx); err != nil {
		t.Fatal(err)
	}
	err := lab.Until(within(t, ctx, 20*time.Second), 50*time.Millisecond, func() error {
		out, err := old.Ctl(ctx, "status")
		if err == nil && (!strings.Contains(out, "excluded") || !strings.Contains(out, "join anew")) {
			err = fmt.Errorf("it does not stand aside:\n%s", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	data := filepath.Join(old.Dir, "data")
	if err := os.Rename(data, data+"-before"); err != nil {
		t.Fatal(err)
	}
	if err := old.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Join(ctx, leader); err != nil {
		t.Fatal(err)
	}
	roles(t, ctx, leader, map[string]string{leader.ID: "leader", other.ID: "voter", old.ID: "voter"})
}

// holder is the survivor at which the cluster can be recovered.
func holder(t *testing.T, ctx context.Context, survivors []*lab.Node) *lab.Node {
	t.Helper()
	for _, n := range survivors {
		if out, err := n.Ctl(ctx, "recover"); err != nil && strings.Contains(out, "give --yes") {
			return n
		} else if !strings.Contains(out, "holds more") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Fatal("every survivor says that another one holds more")
	return nil
}

func leaderless(t *testing.T, ctx context.Context, n *lab.Node) {
	t.Helper()
	err := lab.Until(within(t, ctx, 20*time.Second), 50*time.Millisecond, func() error {
		s, err := n.Status(ctx)
		if err == nil && s.Leader != "" {
			err = fmt.Errorf("%s still knows the leader %s", n.ID, s.Leader)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// loading sends GETs through nodes until stop is called, which waits for their end.
func loading(t *testing.T, ctx context.Context, nodes []*lab.Node) (stop func(), load *lab.Load) {
	t.Helper()
	load = &lab.Load{}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{}, len(nodes))
	for _, n := range nodes {
		go func() {
			load.Run(ctx, n, "/api/v1/categories", 5*time.Millisecond)
			ended <- struct{}{}
		}()
	}
	stop = func() {
		cancel()
		for range nodes {
			<-ended
		}
	}
	return stop, load
}

// roles waits until nodes have the roles that are wanted.
func roles(t *testing.T, ctx context.Context, n *lab.Node, want map[string]string) {
	t.Helper()
	err := lab.Until(within(t, ctx, 40*time.Second), 100*time.Millisecond, func() error {
		out, err := n.Ctl(ctx, "nodes", "-o", "json")
		if err != nil {
			return err
		}
		var nodes []struct{ ID, Role, Status string }
		if err := json.Unmarshal([]byte(out), &nodes); err != nil {
			return err
		}
		have := map[string]string{}
		for _, x := range nodes {
			have[x.ID] = x.Role
			if _, named := want[x.ID]; !named && x.Status != "left" {
				return fmt.Errorf("%s is %s, not left", x.ID, x.Status)
			}
		}
		for id, role := range want {
			if have[id] != role && !(role == "leader" && have[id] == "voter") {
				return fmt.Errorf("%s is %q, want %q: %s", id, have[id], role, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
