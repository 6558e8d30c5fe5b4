package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"orch/scripts/lab"
)

func apply(t *testing.T, c *lab.Cluster, n *lab.Node, name, yaml string) {
	t.Helper()
	path, err := c.Spec(name, yaml)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Ctl(t.Context(), "apply", "--yes", "-f", path); err != nil {
		t.Fatal(err)
	}
}

// rowWith waits for the first row of a service to fit.
func rowWith(t *testing.T, n *lab.Node, ctx context.Context, service string, fits func(lab.Row) error) lab.Row {
	t.Helper()
	var row lab.Row
	err := lab.Until(ctx, 50*time.Millisecond, func() error {
		rows, err := n.PS(t.Context()) // not ctx: the last look shall show a row
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Service == service {
				row = r
				return fits(r)
			}
		}
		return fmt.Errorf("no row of %s in %+v", service, rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	return row
}
