package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
	"orch/agent/backup"
	"orch/fsm"
)

func (a *app) snapshot() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Short: "Save, look into and restore the cluster's state"}
	cmd.AddCommand(a.snapshotSave(), a.snapshotInspect(), a.snapshotRestore())
	return cmd
}

func (a *app) snapshotSave() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Write the state to a file, while the cluster runs", Args: cobra.ExactArgs(1), Example: "  orchctl snapshot save monday.snap",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				var b bytes.Buffer
				if err := c.Archive(ctx, stale, &b); err != nil {
					return err
				}
				m, _, err := backup.Read(bytes.NewReader(b.Bytes()))
				if err != nil {
					return fmt.Errorf("what the node sent is damaged: %w", err)
				}
				if err := writeNew(args[0], b.Bytes()); err != nil {
					return err
				}
				return a.say(m, "%s: cluster %s, term %d, index %d, %d bytes; 'orchctl snapshot inspect %s' looks into it", args[0], m.ClusterID, m.Term, m.Index, b.Len(), args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "take what the node holds, also when there is no leader to ask for the newest")
	return cmd
}

// writeNew writes a file that only this user can read, as a whole or not at all; one
// that is there is left alone.
func writeNew(path string, content []byte) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already: choose another name, or remove it first", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Link(f.Name(), path); err != nil { // unlike a rename it replaces nothing
		return err
	}
	return os.Remove(f.Name())
}

func readArchive(path string) (backup.Meta, *fsm.State, error) {
	f, err := os.Open(path)
	if err != nil {
		return backup.Meta{}, nil, err
	}
	defer f.Close()
	m, v, err := backup.Read(f)
	if err != nil {
		return m, nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, v, nil
}

// contents is what a snapshot file holds, for people and scripts.
type contents struct {
	backup.Meta
	Services []contained `json:"services"`
	Nodes    []string    `json:"nodes"`
	Rows     int         `json:"rows"`
}

type contained struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	Scale string `json:"scale"`
}

func look(m backup.Meta, v *fsm.State) contents {
	c := contents{Meta: m, Services: []contained{}, Nodes: []string{}, Rows: len(v.Containers)}
	for _, s := range v.Services {
		scale := fmt.Sprintf("%d-%d", s.Spec.Scale.Min, s.Spec.Scale.Max)
		if s.Manual > 0 {
			scale = fmt.Sprintf("%d by hand", s.Manual)
		}
		c.Services = append(c.Services, contained{s.Name, s.Spec.Image, scale})
	}
	for _, n := range v.Nodes {
		c.Nodes = append(c.Nodes, n.ID)
	}
	return c
}

func (a *app) snapshotInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect FILE", Short: "Check a file and say what it holds; asks no node", Args: cobra.ExactArgs(1), Example: "  orchctl snapshot inspect monday.snap",
		RunE: func(_ *cobra.Command, args []string) error {
			m, v, err := readArchive(args[0])
			if err != nil {
				return err
			}
			c := look(m, v)
			return a.print(c, func(w io.Writer) {
				fmt.Fprintf(w, "Cluster\t%s\nTaken\t%s on node %s (%s)\nHolds\tterm %d, index %d\nNodes\t%v\nContainers\t%d\n\nSERVICE\tIMAGE\tSCALE\n",
					m.ClusterID, m.TakenAt.Local().Format(time.DateTime), m.Node, m.Version, m.Term, m.Index, c.Nodes, c.Rows)
				for _, s := range c.Services {
					fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Image, s.Scale)
				}
			})
		},
	}
}
