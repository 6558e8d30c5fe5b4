package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
	"orch/agent/backup"
	"orch/agent/pki"
	"orch/fsm"
)

func (a *app) snapshotRestore() *cobra.Command {
	var yes bool
	var keyFile string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Put the services of a file into this cluster, new or not", Args: cobra.ExactArgs(1),
		Long: `Put the services of a file into this cluster: their specs, and what was scaled by hand.

Containers are then started as for any new service, with numbers and ports from the
first on. Nodes, turns, counts and events of the old cluster are not taken over, nor
people, nor services that the file does not have. Volumes are not in the file. It may be
repeated.

Values of secret_env are sealed by the cluster that the file is of. Another cluster needs
that one's key to read them: the file cluster.key of the data folder of any node of it.`,
		Example: "  orchctl snapshot restore monday.snap\n  orchctl snapshot restore monday.snap --cluster-key old/cluster.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, v, err := readArchive(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				var now bytes.Buffer
				if err := c.Archive(ctx, false, &now); err != nil {
					return err
				}
				_, here, err := backup.Read(&now)
				if err != nil {
					return err
				}
				if v, err = openSecrets(v, here.ClusterID, keyFile, cmd.InOrStdin()); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				plan, err := restorePlan(ctx, c, v, here)
				if err != nil {
					return err
				}
				if err := a.print(plan, func(w io.Writer) {
					fmt.Fprintf(w, "From %s of cluster %s into cluster %s:\n\nSERVICE\tDO\tIMAGE\n", m.TakenAt.Local().Format(time.DateTime), m.ClusterID, here.ClusterID)
					for _, p := range plan {
						fmt.Fprintf(w, "%s\t%s\t%s\n", p.Service, p.Do, p.Image)
					}
				}); err != nil {
					return err
				}
				if err := a.confirm(cmd, yes, "Restore these services?"); err != nil {
					return err
				}
				return a.restore(ctx, c, v, plan)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	cmd.Flags().StringVar(&keyFile, "cluster-key", "", "cluster.key of the cluster that the file is of, to open its secret_env; - is standard input")
	return cmd
}

// maxClusterKey bounds what is read as a cluster's key, in bytes; it has 65.
const maxClusterKey = 4 << 10

// openSecrets returns the state with the sealed values of its services open, where
// another cluster is to get them: it seals them anew. The cluster that sealed them takes
// them as they are.
func openSecrets(from *fsm.State, to, keyFile string, stdin io.Reader) (*fsm.State, error) {
	names := secretNames(from)
	if len(names) == 0 || from.ClusterID == to {
		return from, nil
	}
	if keyFile == "" {
		return nil, fmt.Errorf("%s: sealed by cluster %s, so that cluster %s can not open it: give that cluster's key with --cluster-key FILE ('cluster.key' in the data folder of any of its nodes); without it, leave this file and apply the services from their own files, where the values are plain",
			strings.Join(names, ", "), from.ClusterID, to)
	}
	key, err := readClusterKey(keyFile, stdin)
	if err != nil {
		return nil, fmt.Errorf("--cluster-key: %w", err)
	}
	out := *from
	out.Services = slices.Clone(from.Services)
	for i, s := range out.Services {
		open := maps.Clone(s.Spec.SecretEnv)
		for name, value := range open {
			if !pki.SealedEnv(value) || s.Removing {
				continue
			}
			if open[name], err = pki.OpenEnv(key, s.Name, name, value); err != nil {
				return nil, fmt.Errorf("--cluster-key: %s secret_env.%s: %w: is it the key of cluster %s?", s.Name, name, err, from.ClusterID)
			}
		}
		out.Services[i].Spec.SecretEnv = open
	}
	return &out, nil
}

// secretNames lists what is sealed in the services of a state.
func secretNames(v *fsm.State) (names []string) {
	for _, s := range v.Services {
		for _, k := range slices.Sorted(maps.Keys(s.Spec.SecretEnv)) {
			if !s.Removing && pki.SealedEnv(s.Spec.SecretEnv[k]) {
				names = append(names, s.Name+" secret_env."+k)
			}
		}
	}
	return names
}

func readClusterKey(file string, stdin io.Reader) ([]byte, error) {
	if file != "-" {
		if err := pki.CheckPrivate(file); err != nil {
			return nil, err
		}
	}
	b, err := readSecret(file, stdin, maxClusterKey)
	if err != nil {
		return nil, err
	}
	return pki.DecodeSealKey(b)
}

// restored is what restoring does to one service.
type restored struct {
	Service string `json:"service"`
	Do      string `json:"do"` // add, change or nothing
	Image   string `json:"image"`
}

func restorePlan(ctx context.Context, c *api.Client, from, to *fsm.State) ([]restored, error) {
	plan := []restored{}
	for _, s := range from.Services {
		if s.Removing {
			continue
		}
		p := restored{s.Name, "add", s.Spec.Image}
		if old, ok := to.Service(s.Name); ok {
			p.Do = "change"
			same, err := sameSpec(ctx, c, old.Spec, s.Spec)
			if err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
			if same && old.Manual == s.Manual && !old.Removing {
				p.Do = "nothing"
			}
		}
		plan = append(plan, p)
	}
	return plan, nil
}

// sameSpec says whether a spec is what the cluster has. Only a node can tell whether a
// secret that is open here is the one that is sealed there.
func sameSpec(ctx context.Context, c *api.Client, there, s fsm.Spec) (bool, error) {
	if reflect.DeepEqual(there, s) || len(s.SecretEnv) == 0 {
		return reflect.DeepEqual(there, s), nil
	}
	p, err := c.Plan(ctx, s, api.ApplyOptions{})
	return p.Idle(), err
}

func (a *app) restore(ctx context.Context, c *api.Client, from *fsm.State, plan []restored) error {
	done := 0
	for _, p := range plan {
		if p.Do == "nothing" {
			continue
		}
		s, _ := from.Service(p.Service)
		if err := c.Apply(ctx, s.Spec, api.ApplyOptions{}); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		if err := c.Scale(ctx, s.Name, s.Manual); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		done++
	}
	if a.output == "json" {
		return nil // the plan was printed, and has been done
	}
	return a.say(nil, "\n%d services restored; watch them with 'orchctl ps'", done)
}
