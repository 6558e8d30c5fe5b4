package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// bundle is all that a person needs to use a cluster from elsewhere. It is a secret.
type bundle struct {
	Version     int       `json:"version"`
	ClusterID   string    `json:"cluster_id"`
	Name        string    `json:"name"`
	Role        fsm.Role  `json:"role"`
	Addrs       []string  `json:"addrs"`
	Certificate []byte    `json:"certificate"`
	Authorities []byte    `json:"authorities"`
	Key         []byte    `json:"key"`
	Until       time.Time `json:"until"`

	context string // name of the context that it is stored as
}

const bundleVersion = 1

// maxBundle is the longest file that is read, in bytes: a bundle has some four thousand.
const maxBundle = 1 << 20

func readBundle(b []byte) (*bundle, error) {
	var out bundle
	if err := json.Unmarshal(b, &out); err != nil || out.ClusterID == "" || !pki.ValidName(out.Name) || len(out.Addrs) == 0 {
		return nil, errors.New("it is not a bundle: give the file that 'orchctl grant' has written")
	}
	if out.Version != bundleVersion {
		return nil, fmt.Errorf("it is a bundle of version %d, and this orchctl reads version %d: use the orchctl of the cluster's release", out.Version, bundleVersion)
	}
	return &out, nil
}

// contextsDir is where contexts are stored: a file of mode 0600 each.
func contextsDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where are contexts kept? %w", err)
	}
	return filepath.Join(dir, "orch", "contexts"), nil
}

const currentFile = "current"

// currentContext is the name of the one in use, or empty.
func currentContext() (string, error) {
	dir, err := contextsDir()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// loadContext reads a context; an empty name is the current one.
func loadContext(name string) (*bundle, error) {
	if name == "" {
		var err error
		if name, err = currentContext(); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return nil, errors.New("a node asks who you are when it is not asked by its socket: log in first with 'orchctl login BUNDLE' (an admin makes the bundle with 'orchctl grant NAME --role ROLE'), or run orchctl on the node itself")
	}
	dir, err := contextsDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+".json")
	if !pki.ValidName(name) {
		return nil, fmt.Errorf("context %q: use lower-case letters, digits, dots, dashes and underscores", name)
	}
	if err := pki.CheckPrivate(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no context %q: 'orchctl context' lists those there are", name)
	} else if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out, err := readBundle(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out.context = name
	return out, nil
}

// save stores a bundle as the context of its name and makes that the current one.
func (b *bundle) save() error {
	if err := b.store(); err != nil {
		return err
	}
	dir, err := contextsDir()
	if err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, currentFile), []byte(b.context+"\n"))
}

func (b *bundle) store() error {
	dir, err := contextsDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(filepath.Join(dir, b.context+".json"), content)
}

// writePrivate replaces a file as a whole; only this user may read it.
func writePrivate(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

func (a *app) login() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "login BUNDLE", Short: "Use a cluster from this machine, by a bundle that 'orchctl grant' has made; - reads standard input", Args: cobra.ExactArgs(1),
		Example: "  orchctl login bob.bundle\n  ssh node1 orchctl grant bob --role read --out - | orchctl login -",
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := readSecret(args[0], cmd.InOrStdin(), maxBundle)
			if err != nil {
				return err
			}
			b, err := readBundle(content)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if name == "" {
				name = b.Name + "." + b.ClusterID[:min(6, len(b.ClusterID))]
			}
			if !pki.ValidName(name) || name == currentFile {
				return fmt.Errorf("--name %q: use lower-case letters, digits, dots, dashes and underscores", name)
			}
			b.context = name
			if _, err := b.client(b.Addrs[0]); err != nil {
				return err
			}
			if err := b.save(); err != nil {
				return fmt.Errorf("store the context: %w", err)
			}
			return a.say(map[string]string{"context": name, "cluster_id": b.ClusterID}, "Logged in to cluster %s as %s, who has the role %s, until %s.\nIt is context %s, and in use now. The bundle has been stored: delete the file.",
				b.ClusterID, b.Name, b.Role, b.Until.Local().Format(time.DateTime), name)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what to call the context (default NAME.CLUSTER)")
	return cmd
}

// contextInfo is a line of 'orchctl context'.
type contextInfo struct {
	Name      string    `json:"name"`
	ClusterID string    `json:"cluster_id"`
	Person    string    `json:"person"`
	Role      fsm.Role  `json:"role"`
	Until     time.Time `json:"until"`
	Current   bool      `json:"current"`
}

func (a *app) contextCmd() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use: "context [NAME]", Short: "List the clusters that you have logged in to, or choose one", Args: cobra.MaximumNArgs(1),
		Example: "  orchctl context\n  orchctl context bob.1f3a90\n  orchctl context bob.1f3a90 --remove",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listContexts()
			}
			if _, err := loadContext(args[0]); err != nil {
				return err
			}
			dir, err := contextsDir()
			if err != nil {
				return err
			}
			if !remove {
				if err := writePrivate(filepath.Join(dir, currentFile), []byte(args[0]+"\n")); err != nil {
					return err
				}
				return a.say(map[string]string{"context": args[0]}, "context %s is in use", args[0])
			}
			if err := os.Remove(filepath.Join(dir, args[0]+".json")); err != nil {
				return err
			}
			if now, err := currentContext(); err == nil && now == args[0] {
				if err := os.Remove(filepath.Join(dir, currentFile)); err != nil {
					return err
				}
			}
			return a.say(map[string]string{"removed": args[0]}, "context %s is gone from this machine; 'orchctl revoke' ends it everywhere", args[0])
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "forget it, key and all")
	return cmd
}

func (a *app) listContexts() error {
	dir, err := contextsDir()
	if err != nil {
		return err
	}
	current, err := currentContext()
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	slices.Sort(found)
	list := []contextInfo{}
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		b, err := loadContext(name)
		if err != nil {
			return err
		}
		list = append(list, contextInfo{name, b.ClusterID, b.Name, b.Role, b.Until, name == current})
	}
	return a.print(list, func(w io.Writer) {
		fmt.Fprintln(w, "CONTEXT\tCLUSTER\tPERSON\tROLE\tUNTIL\tIN USE")
		for _, c := range list {
			mark := ""
			if c.Current {
				mark = "*"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.ClusterID, c.Person, c.Role, c.Until.Local().Format(time.DateTime), mark)
		}
		if len(list) == 0 {
			fmt.Fprintln(w, "(none: 'orchctl login BUNDLE' makes one)")
		}
	})
}

func (a *app) grant() *cobra.Command {
	var role, out string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "grant NAME --role read|deploy|admin", Short: "Let a person use this cluster from elsewhere: makes a bundle for 'orchctl login'", Args: cobra.ExactArgs(1),
		Long: `Let a person use this cluster from elsewhere: makes a bundle for 'orchctl login'.

read looks; deploy also changes services; admin also changes nodes, keys and grants. A
second grant for a name replaces the first, whose bundle is void. The bundle holds a
key: hand it over as you would a password.`,
		Example: "  orchctl grant bob --role read\n  orchctl grant ci --role deploy --ttl 720h --out ci.bundle",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + ".bundle"
			}
			if _, err := os.Lstat(out); err == nil && out != "-" {
				return fmt.Errorf("--out %q: it is there already: move it away, or choose another file", out)
			}
			key, err := pki.NewKey()
			if err != nil {
				return err
			}
			request, err := pki.Request(key)
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, c *api.Client) error {
				g, err := c.Grant(ctx, api.GrantOrder{Name: args[0], Role: fsm.Role(role), Request: request, TTLMS: ttl.Milliseconds()})
				if err != nil {
					return err
				}
				b := bundle{Version: bundleVersion, ClusterID: g.ClusterID, Name: g.Name, Role: g.Role, Addrs: g.Addrs, Certificate: g.Certificate, Authorities: g.Authorities, Until: g.Until}
				if b.Key, err = pki.EncodeKey(key); err != nil {
					return err
				}
				content, err := json.MarshalIndent(b, "", "  ")
				if err != nil {
					return err
				}
				if out == "-" {
					_, err := a.stdout.Write(append(content, '\n'))
					return err
				}
				if err := writePrivate(out, append(content, '\n')); err != nil {
					return fmt.Errorf("--out %q: %w", out, err)
				}
				return a.say(map[string]string{"name": g.Name, "role": string(g.Role), "file": out}, "%s has the role %s until %s. The bundle is %s: give it to %s, who runs 'orchctl login %s'.",
					g.Name, g.Role, g.Until.Local().Format(time.DateTime), out, g.Name, filepath.Base(out))
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "read, deploy or admin")
	cmd.Flags().StringVar(&out, "out", "", "file to write, - for standard output (default NAME.bundle)")
	cmd.Flags().DurationVar(&ttl, "ttl", 90*24*time.Hour, "how long it is valid, at most 8784h")
	cmd.MarkFlagRequired("role")
	return cmd
}

// readSecret reads a file, or standard input where it is named -.
func readSecret(file string, stdin io.Reader, limit int64) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, limit))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
