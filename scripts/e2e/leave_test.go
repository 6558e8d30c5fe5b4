package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestLeaveThatWouldCostTheMajority is refused at once, names what is lost, and goes
// through when that has been taken out.
func TestLeaveThatWouldCostTheMajority(t *testing.T) {
	c, ctx := cluster(t, 3, "")
	lost := c.Nodes[2]
	lost.Kill()
	var leaver *lab.Node
	err := lab.Until(within(t, ctx, 30*time.Second), 50*time.Millisecond, func() error {
		leader, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		leaver = c.Nodes[0]
		if leader == leaver {
			leaver = c.Nodes[1]
		}
		out, err := leaver.Ctl(ctx, "nodes")
		if err == nil && !strings.Contains(out, "dead") {
			err = errors.New(out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, err := leaver.Ctl(ctx, "leave")
	if err == nil || !strings.Contains(out, lost.ID+" is dead") || !strings.Contains(out, "orchctl remove") {
		t.Errorf("%v: %s", err, out)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("refused after %s", took)
	}
	if out, err := leaver.Ctl(ctx, "remove", lost.ID); err != nil {
		t.Fatal(out)
	}
	err = lab.Until(within(t, ctx, 30*time.Second), 100*time.Millisecond, func() error {
		_, err := leaver.Ctl(ctx, "leave")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = lab.Until(within(t, ctx, 30*time.Second), 50*time.Millisecond, func() error {
		if leaver.Running() {
			return errors.New(leaver.Log(2))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
