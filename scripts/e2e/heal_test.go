package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestHealsWhateverEndsAContainer: killed, removed, paused or stopped by somebody
// else, a container is replaced on its port by a new one.
func TestHealsWhateverEndsAContainer(t *testing.T) {
	c, ctx := cluster(t, 1, spec(2, 10))
	n := c.Nodes[0]
	rows, err := n.Healthy(within(t, ctx, 30*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range [][]string{{"kill"}, {"rm", "-f"}, {"pause"}, {"stop", "-t", "1"}} {
		t.Run(fault[0], func(t *testing.T) {
			old := containerIDs(t, ctx, rows[1:])[0]
			if _, err := lab.Docker(ctx, append(fault, old)...); err != nil {
				t.Fatal(err)
			}
			rows[1] = replaced(t, ctx, n, rows[1])
			if id := containerIDs(t, ctx, rows[1:])[0]; id == old {
				t.Errorf("container %s was started again, want a new one", id)
			}
		})
	}
	if now, err := n.Healthy(within(t, ctx, 10*time.Second), 2); err != nil || now[0].Generation != rows[0].Generation {
		t.Errorf("the other row was touched: %+v, %v", now, err)
	}
}

// TestDyingContainerBacksOff: a container that ends at each start waits longer
// and longer, says why in ps, and harms nothing else.
func TestDyingContainerBacksOff(t *testing.T) {
	c, ctx := cluster(t, 1, spec(1, 10))
	n := c.Nodes[0]
	if _, err := n.Healthy(within(t, ctx, 30*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	apply(t, c, n, "dying", `name: dying
image: IMAGE
command: ["--no-such-flag"]
routes: ["/dying"]
`)
	row := rowWith(t, n, within(t, ctx, 40*time.Second), "dying", func(r lab.Row) error {
		if r.Generation < 3 || !strings.Contains(r.Reason, "exit") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	t.Logf("row: %+v", row)
	if rows, err := n.PS(ctx); err != nil || !rows[0].Status || rows[0].Generation != 1 {
		t.Errorf("acts suffered: %+v, %v", rows, err)
	}
	events, err := n.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	for _, e := range events {
		if e.Kind == "back-off" && e.Service == "dying" {
			waits++
		}
	}
	if waits == 0 {
		t.Errorf("no back-off among %d events", len(events))
	}
}

// TestMissingImageSaysWhy: the row names the image and waits.
func TestMissingImageSaysWhy(t *testing.T) {
	c, ctx := cluster(t, 1, "name: ghost\nimage: ghost:never-built\n")
	row := rowWith(t, c.Nodes[0], within(t, ctx, 30*time.Second), "ghost", func(r lab.Row) error {
		if !strings.Contains(r.Reason, "ghost:never-built") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if row.Status {
		t.Errorf("healthy without an image: %+v", row)
	}
}

// TestTakenPort: somebody else listens on the port; the next one is used and the
// event says so.
func TestTakenPort(t *testing.T) {
	c, ctx := cluster(t, 1, "")
	n := c.Nodes[0]
	l, err := net.Listen("tcp", net.JoinHostPort(n.IP, "8000"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	apply(t, c, n, "acts", spec(1, 10))
	rows, err := n.Healthy(within(t, ctx, 30*time.Second), 1)
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].Port != 8001 {
		t.Errorf("port %d, want 8001", rows[0].Port)
	}
	events, err := n.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "port-taken" && strings.Contains(e.Reason, "8000") {
			return
		}
	}
	t.Errorf("no event says that port 8000 is taken: %+v", events)
}
