package agent

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"orch/agent/api"
	"orch/agent/backup"
	"orch/fsm"
)

// Archive implements api.Self: the state of now as one file. A stale one is what this
// node holds, whatever the others have committed since.
func (n *Node) Archive(ctx context.Context, stale bool) ([]byte, error) {
	if n.clusterID() == "" {
		return nil, api.ErrNotMember
	}
	v := n.view()
	if !stale {
		if id, _ := n.raft.Leader(); id == "" {
			return nil, fmt.Errorf("%w is known, so this node may be behind: --stale takes what it holds", api.ErrNoLeader)
		}
		if err := n.caughtUp(ctx); err != nil {
			return nil, err
		}
		v = n.store.View()
	}
	var b bytes.Buffer
	_, err := backup.Write(&b, v, n.cfg.NodeID, n.cfg.Version, time.Now())
	return b.Bytes(), err
}

// source is this node as the schedule of snapshot files sees it.
type source struct{ *Node }

func (s source) Leads() bool {
	id, _ := s.raft.Leader()
	return id == s.cfg.NodeID
}

func (s source) View(ctx context.Context) (*fsm.State, error) {
	if err := s.caughtUp(ctx); err != nil {
		return nil, err
	}
	return s.store.View(), nil
}

// newBackups returns nil where no place for files is configured.
func newBackups(n *Node) *backup.Schedule {
	if n.cfg.SnapshotTo == "" {
		return nil
	}
	return backup.NewSchedule(backup.Config{
		To: n.cfg.SnapshotTo, Every: n.cfg.SnapshotEvery, Keep: n.cfg.SnapshotKeep, Node: n.cfg.NodeID, Version: n.cfg.Version,
		Logger: n.log, Registry: n.cfg.Registry,
	}, source{n})
}
