package agent

import (
	"context"
	"fmt"
	"log/slog"
)

// Labels of a container, as the worker sets them.
const (
	labelCluster = "orch.cluster"
	labelNode    = "orch.node"
)

// CheckEngine returns nil where the container engine answers.
func CheckEngine(ctx context.Context, cfg Config) error {
	if cfg.Engine != "docker" {
		return nil
	}
	e, err := newEngine(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Ping(ctx)
}

// Purge kills and removes every container of this node and the rules that guard their
// ports, and returns how many. It
// refuses while the node's daemon runs: that would start them again.
func Purge(ctx context.Context, cfg Config) (int, error) {
	f, err := openFolder(cfg.DataDir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	id, ok, err := f.identity(cfg.NodeID)
	if err != nil || !ok {
		return 0, err
	}
	e, err := newEngine(cfg)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	list, err := e.List(ctx, map[string]string{labelCluster: id.ClusterID, labelNode: id.NodeID})
	if err != nil {
		return 0, err
	}
	for i, c := range list {
		if err := e.Kill(ctx, c.ID); err != nil {
			return i, fmt.Errorf("remove %s: %w", c.Name, err)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	fw, err := newFirewall(cfg, id.ClusterID, nil)
	if err == nil && cfg.Firewall != firewallOff {
		err = removeRules(ctx, fw)
	}
	return len(list), err
}
