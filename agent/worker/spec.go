package worker

import (
	"fmt"
	"maps"
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

// spec is what the engine is asked to run for a row, from the spec of its build.
func (w *Worker) spec(row fsm.Container, s fsm.Spec) (Spec, error) {
	env := s.Env
	if len(s.SecretEnv) > 0 {
		secret, err := w.cfg.Reveal(s)
		if err != nil {
			return Spec{}, err
		}
		env = maps.Clone(s.Env)
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, secret)
	}
	out := Spec{
		Name: Name(w.cfg.ClusterID(), row), Image: row.Image, ImageID: row.ImageID, Labels: w.rowLabels(row),
		Env: environment(row, env, w.cfg.Proxy), Command: s.Command, User: s.User,
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
// A value of the spec may name the proxy of the container's node, by which it reaches
// every service of the cluster wherever it runs: ${ORCH_PROXY}.
func environment(row fsm.Container, own map[string]string, proxy string) []string {
	identity := []string{
		"ORCH_GENERATION=" + fmt.Sprint(row.Generation),
		"ORCH_NODE=" + row.Node,
		"ORCH_NUMBER=" + fmt.Sprint(row.Number),
		"ORCH_PROXY=" + proxy,
		"ORCH_SERVICE=" + row.Service,
	}
	var env []string
	for k, v := range own {
		ours := slices.ContainsFunc(identity, func(s string) bool { return strings.HasPrefix(s, k+"=") })
		if !ours {
			env = append(env, k+"="+strings.ReplaceAll(v, "${ORCH_PROXY}", proxy))
		}
	}
	slices.Sort(env)
	return append(env, identity...)
}
