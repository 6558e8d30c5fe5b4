package worker

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"orch/fsm"
)

// Limits of a container's log on disk: 30 MB a container, so that ten of them
// stay below a third of a gigabyte.
const (
	logMaxSize  = "10m"
	logMaxFiles = 3
)

// spec is what the engine is asked to run for a row. The image is the row's, as
// ps shows it; the rest is the service's spec of now.
func (w *Worker) spec(row fsm.Container, s fsm.Spec) (Spec, error) {
	out := Spec{
		Name: Name(w.cfg.ClusterID(), row), Image: row.Image, Labels: w.rowLabels(row),
		Env: environment(row, s.Env), Command: s.Command, User: s.User,
		HostIP: w.cfg.HostIP, HostPort: row.Port, ContainerPort: s.ContainerPort,
		MemoryBytes: s.Resources.MemoryMiB << 20, NanoCPUs: int64(s.Resources.CPUs * 1e9), PidsLimit: s.Resources.Pids,
		LogMaxSize: logMaxSize, LogMaxFiles: logMaxFiles,
	}
	for _, v := range s.Volumes {
		// Specs are checked before they are proposed; a name that leaves the volume
		// folder would still hand the machine to a container, so look again.
		if v.Name == "" || v.Name == "." || v.Name == ".." || strings.ContainsAny(v.Name, `/\`) {
			return Spec{}, fmt.Errorf("volume name %q: give it a name without slashes in the spec", v.Name)
		}
		out.Mounts = append(out.Mounts, Mount{filepath.Join(w.cfg.VolumeDir, v.Name), v.Target})
	}
	return out, nil
}

// environment is the spec's own, then what tells a container who it is.
func environment(row fsm.Container, own map[string]string) []string {
	identity := []string{
		"ORCH_GENERATION=" + fmt.Sprint(row.Generation),
		"ORCH_NODE=" + row.Node,
		"ORCH_NUMBER=" + fmt.Sprint(row.Number),
		"ORCH_SERVICE=" + row.Service,
	}
	var env []string
	for k, v := range own {
		ours := slices.ContainsFunc(identity, func(s string) bool { return strings.HasPrefix(s, k+"=") })
		if !ours {
			env = append(env, k+"="+v)
		}
	}
	slices.Sort(env)
	return append(env, identity...)
}
