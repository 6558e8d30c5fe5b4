// Command orchctl is the operator's command: it asks a node's API and prints tables
// for people or JSON for scripts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"orch/agent/api"
)

// version is set at build time (-ldflags -X).
var version string

// release is this program's version: the build's own, else what Go noted of it.
func release() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "orchctl:", err)
		os.Exit(1)
	}
}

// app is what every command shares.
type app struct {
	addr    string
	output  string
	timeout time.Duration
	stdout  io.Writer
	stderr  io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "orchctl",
		Short: "See and steer a cluster",
		Long: `See and steer a cluster.

The node asked is the first of: --addr, $ORCH_ADDR, /run/orchd/orchd.sock, and
run/node*/orchd.sock below this folder (what 'make up' makes).`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return fmt.Errorf("--output %q: choose table or json", a.output)
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.addr, "addr", "", "node to ask: HOST:PORT of its API, or the path of its socket")
	f.StringVarP(&a.output, "output", "o", "table", "table for people, json for scripts")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "longest wait for an answer; streams have none")
	root.AddCommand(a.initCmd(), a.join(), a.ps(), a.nodes(), a.status(), a.apply(), a.delete(), a.scale(),
		a.events(), a.logs(), a.transfer(), a.leave(), a.version())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// defaultSocket is where an installed orchd listens.
const defaultSocket = "/run/orchd/orchd.sock"

// client finds the node to ask.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	if a.addr == "" {
		a.addr = os.Getenv("ORCH_ADDR")
	}
	if a.addr != "" {
		if _, _, err := net.SplitHostPort(a.addr); err != nil && !strings.Contains(a.addr, "/") {
			return nil, fmt.Errorf("address %q (--addr or $ORCH_ADDR): give HOST:PORT of a node's API, for example 127.0.0.1:7480, or the path of its socket with a / in it", a.addr)
		}
		return api.NewClient(a.addr, nil), nil
	}
	candidates := []string{defaultSocket}
	found, err := filepath.Glob("run/node*/orchd.sock")
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	for _, path := range append(candidates, found...) {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		c := api.NewClient(path, nil)
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		err := c.Healthy(ctx)
		cancel()
		if err == nil {
			return c, nil
		}
		c.Close()
	}
	return nil, errors.New("no orchd answers here: start one ('make up', or 'systemctl start orchd'), or name a node with --addr HOST:PORT or $ORCH_ADDR")
}

// with runs f with a client, within the timeout.
func (a *app) with(cmd *cobra.Command, f func(context.Context, *api.Client) error) error {
	c, err := a.client(cmd.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	return f(ctx, c)
}
