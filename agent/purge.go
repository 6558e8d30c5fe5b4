package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
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

// Purge kills and removes every container of the node that the data folder is of, and
// the rules that guard their ports. It returns that node's ID, which is empty where the
// folder is of none, and how many containers there were. It refuses while the node's
// daemon runs, which would start them again, and another node's folder than that of
// cfg.NodeID, where that is given.
func Purge(ctx context.Context, cfg Config) (node string, removed int, err error) {
	f, err := openFolder(cfg.DataDir)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	id, ok, err := f.identity(cfg.NodeID)
	if err != nil || !ok {
		return "", 0, err
	}
	if in := rejoined(f.dir, id); in != "" {
		above, err := openFolder(in)
		if err != nil {
			return id.NodeID, 0, fmt.Errorf("%s was set aside, and node %s is in that cluster again: the containers that run are its, and nothing was removed: %w", f.dir, id.NodeID, err)
		}
		defer above.Close()
	}
	cfg.NodeID = id.NodeID
	e, err := newEngine(cfg)
	if err != nil {
		return id.NodeID, 0, err
	}
	defer e.Close()
	list, err := e.List(ctx, map[string]string{labelCluster: id.ClusterID, labelNode: id.NodeID})
	if err != nil {
		return id.NodeID, 0, err
	}
	for i, c := range list {
		if err := e.Kill(ctx, c.ID); err != nil {
			return id.NodeID, i, fmt.Errorf("remove %s: %w", c.Name, err)
		}
	}
	if cfg.Firewall == firewallOff {
		return id.NodeID, len(list), nil
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// The address of its last run says whether it is a failure that rules can not be
	// listed: on loopback there never were any.
	if v, err := f.loadView(); err == nil && v != nil {
		if self, ok := v.Node(id.NodeID); ok {
			cfg.Addr = self.Addr
		}
	}
	fw, err := newFirewall(cfg, id.ClusterID, nil)
	if err == nil {
		err = removeRules(ctx, fw)
	}
	return id.NodeID, len(list), err
}

// rejoined is the folder that a folder was set aside in, where the same node is in the same
// cluster again: containers and rules bear the marks of both, and are that one's.
func rejoined(dir string, id identity) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	above := &folder{dir: filepath.Dir(dir)}
	now, ok, err := above.identity("")
	if err != nil || !ok || now.ClusterID != id.ClusterID || now.NodeID != id.NodeID {
		return ""
	}
	return above.dir
}
