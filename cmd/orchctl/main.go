// Command orchctl is the operator's command: it asks a node's API and prints tables
// for people or JSON for scripts.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
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
	context string
	output  string
	timeout time.Duration
	stdout  io.Writer
	stderr  io.Writer
	by      *bundle // the context that the node is asked by; nil by a socket
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "orchctl",
		Short: "See and steer a cluster",
		Long: `See and steer a cluster.

The node asked is the first of: --addr, $ORCH_ADDR, the context that --context or
$ORCH_CONTEXT names, /run/orchd/orchd.sock, run/node*/orchd.sock below this folder (what
'make up' makes), and the context in use ('orchctl login'). A node that is asked by HOST:PORT
asks for the certificate of a context.`,
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
	f.StringVar(&a.context, "context", "", "cluster to ask, of those that you have logged in to")
	f.StringVarP(&a.output, "output", "o", "table", "table for people, json for scripts")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "longest wait for an answer; streams have none")
	root.AddCommand(a.initCmd(), a.join(), a.ps(), a.nodes(), a.status(), a.apply(), a.history(), a.rollback(), a.restart(), a.drain(), a.undrain(), a.delete(), a.scale(),
		a.events(), a.logs(), a.transfer(), a.leave(), a.remove(), a.recover(), a.snapshot(), a.version(),
		a.token(), a.trust(), a.grant(), a.revoke(), a.login(), a.contextCmd(), a.ca(), a.gossip())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
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
