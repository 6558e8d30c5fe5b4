package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestOperatorsDay: what a person types, on a cluster of three under load: nodes,
// events, logs, a transfer, a wrong spec, a node that leaves. No request through the
// nodes that stay fails.
func TestOperatorsDay(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 3))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	n := c.Nodes[1]
	say := func(args ...string) string {
		t.Helper()
		out, err := n.Ctl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var nodes []struct{ ID, Role, Status string }
	if err := json.Unmarshal([]byte(say("nodes", "-o", "json")), &nodes); err != nil || len(nodes) != 3 {
		t.Fatalf("nodes %+v, %v", nodes, err)
	}
	for _, x := range nodes {
		if x.Role == "nonvoter" || x.Status != "alive" {
			t.Errorf("after join returned: %+v", x)
		}
	}
	if out := say("ps"); !strings.Contains(out, "acts/3") || !strings.Contains(out, "True") {
		t.Errorf("ps:\n%s", out)
	}
	if out := say("logs", "acts", "--tail", "5"); strings.Count(out, "acts/") < 3 || !strings.Contains(out, "acts/2 | ") {
		t.Errorf("logs of all nodes:\n%s", out)
	}
	for _, args := range [][]string{{"version"}, {"completion", "bash"}, {"status"}, {"events"}} {
		if out := say(args...); len(out) == 0 {
			t.Errorf("%v says nothing", args)
		}
	}
	wrong := filepath.Join(c.Dir, "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("name: acts\nimage: a\nscale:\n  mix: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := n.Ctl(ctx, "apply", "-f", wrong); err == nil || !strings.Contains(out, `wrong.yaml:4: scale.mix: unknown key; did you mean "min"?`) && !strings.Contains(out, `did you mean "max"?`) {
		t.Errorf("a wrong spec: %v\n%s", err, out)
	}

	load := start(ctx, c)
	defer load.end()
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	to := c.Nodes[0]
	if to == leader {
		to = c.Nodes[2]
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 100*time.Millisecond, func() error { // on a slow disk one may not be done in time
		if out, err := n.Ctl(ctx, "transfer", to.ID); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if now, err := c.Leader(ctx); err != nil || now != to {
			return fmt.Errorf("leader after the transfer: %+v, %v", now, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	leaver := c.Nodes[0]
	if leaver == to {
		leaver = c.Nodes[2]
	}
	load.forget(leaver)
	if _, err := leaver.Ctl(ctx, "leave"); err != nil {
		t.Fatal(err)
	}
	err = lab.Until(within(t, ctx, 60*time.Second), 50*time.Millisecond, func() error {
		if leaver.Running() {
			rows, _ := n.PS(ctx)
			return fmt.Errorf("%s has not left yet: %+v", leaver.ID, rows)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := n.Healthy(within(t, ctx, 30*time.Second), 3)
	if err != nil {
		t.Fatal(err)
	}
	if left := rowsOn(rows, leaver.ID); len(left) > 0 {
		t.Errorf("rows stay on %s: %+v", leaver.ID, left)
	}
	if err := json.Unmarshal([]byte(say("nodes", "-o", "json")), &nodes); err != nil {
		t.Fatal(err)
	}
	for _, x := range nodes {
		if x.ID == leaver.ID && x.Status != "left" {
			t.Errorf("%s is shown as %s, want left", x.ID, x.Status)
		}
	}
	load.end()
	if f := load.Failures(); len(f) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(f), load.OK.Load(), f)
	}
	if kept, err := filepath.Glob(filepath.Join(leaver.Dir, "data", "left-*", "node.json")); err != nil || len(kept) != 1 {
		t.Errorf("the data of the cluster it left: %v, %v", kept, err)
	}
}
