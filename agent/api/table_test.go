package api

import (
	"context"
	"testing"

	"orch/fsm"
)

// LeaderView implements Peer.
func (n *one) LeaderView(ctx context.Context) (*fsm.State, error) { return n.View(), ctx.Err() }

// TestTable: the whole table comes over as it is.
func TestTable(t *testing.T) {
	n, c := leading(t)
	v, err := c.Table(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Applied != n.View().Applied || len(v.Containers) != len(n.View().Containers) || v.ClusterID != n.View().ClusterID {
		t.Errorf("%+v", v)
	}
}
