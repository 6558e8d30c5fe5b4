package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestNodeComesBackElsewhere: a machine reboots with another IP. Its node is found
// again, votes again, and its containers answer at the new address, with nothing typed.
// Then a new node takes the address that was left.
func TestNodeComesBackElsewhere(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 3))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	n, old := c.Nodes[2], c.Nodes[2].IP
	n.Kill()
	n.IP = strings.TrimSuffix(old, ".3") + ".33"
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	err := lab.Until(within(t, ctx, 40*time.Second), 100*time.Millisecond, func() error {
		out, err := c.Nodes[0].Ctl(ctx, "nodes", "-o", "json")
		if err != nil {
			return err
		}
		var nodes []struct{ ID, Addr, Role, Status string }
		if err := json.Unmarshal([]byte(out), &nodes); err != nil {
			return err
		}
		for _, x := range nodes {
			if x.ID == n.ID && x.Addr == n.IP && x.Status == "alive" && (x.Role == "voter" || x.Role == "leader") {
				return nil
			}
		}
		return fmt.Errorf("%s has not moved to %s: %s", n.ID, n.IP, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if strings.HasPrefix(r.Addr, old+":") {
			t.Errorf("a row is still at the old address: %+v", r)
		}
	}
	fresh := lab.Add(c, "n9", old)
	if err := fresh.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := fresh.Join(ctx, c.Nodes[0]); err != nil {
		t.Fatalf("a new node at an old address: %v: %s", err, out)
	}
}
