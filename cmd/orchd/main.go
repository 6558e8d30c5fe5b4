// Command orchd is the node daemon. It turns flags into an agent.Config and runs
// it until SIGTERM or SIGINT; containers go on running when it ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"orch/agent"
)

// version is set at build time (-ldflags -X).
var version = "dev"

func main() {
	syscall.Umask(syscall.Umask(0o077) | 0o022) // what is made here is never others' to write to
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "orchd:", strings.ReplaceAll(err.Error(), "\n", "\norchd: "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg := agent.Default()
	cfg.Version = version
	var level, format string
	root := &cobra.Command{
		Use:   "orchd",
		Short: "The node daemon: consensus, membership, containers and the proxy of one node",
		Example: `  orchd --node-id n1 --addr 127.0.0.1 --data-dir /var/lib/orchd
  orchctl init                    # then, once, on the first node
  orchctl join 127.0.0.1:7480     # and on each further one`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(stderr, level, format)
			if err != nil {
				return err
			}
			cfg.Logger = log
			cfg.Registry = prometheus.NewRegistry()
			cfg.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			setProcs()
			return agent.Run(cmd.Context(), cfg.Complete())
		},
	}
	flags(root, &cfg)
	requestFlags(root, &cfg.Requests)
	root.Flags().StringVar(&level, "log-level", "info", "least level that is logged: debug, info, warn or error")
	root.Flags().StringVar(&format, "log-format", "text", "text or json")
	root.AddCommand(checkEngine(&cfg, stdout), purge(&cfg, stdout), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) { fmt.Fprintln(stdout, version) },
	})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func flags(root *cobra.Command, cfg *agent.Config) {
	f := root.PersistentFlags()
	f.StringVar(&cfg.NodeID, "node-id", cfg.NodeID, "name of this node, unique in the cluster")
	f.StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "folder of this node's log, snapshots and identity (mode 0700)")
	f.StringVar(&cfg.VolumeDir, "volume-dir", "", "folder of the volumes that containers share (default DATA-DIR/volumes)")
	f.StringVar(&cfg.Addr, "addr", cfg.Addr, "IP address at which peers reach this node; containers are published on it")
	f.StringVar(&cfg.ProxyAddr, "proxy-addr", "", "public address of the proxy (default ADDR:80)")
	f.StringVar(&cfg.APIAddr, "api-addr", "", "address of the API (default ADDR:7480)")
	f.StringVar(&cfg.RaftAddr, "raft-addr", "", "address of Raft (default ADDR:7481)")
	f.StringVar(&cfg.GossipAddr, "gossip-addr", "", "address of gossip, tcp and udp (default ADDR:7482)")
	f.StringVar(&cfg.MetricsAddr, "metrics-addr", cfg.MetricsAddr, "loopback address of metrics and the dashboard")
	f.StringVar(&cfg.Socket, "socket", cfg.Socket, "path of the operator's unix socket: for this user, and for a group")
	f.StringVar(&cfg.SocketGroup, "socket-group", cfg.SocketGroup, "group whose members may use the socket as admins, where there is one of that name; '' for none")
	f.StringVar(&cfg.Engine, "engine", cfg.Engine, "what runs containers: docker, or process where there is no Docker Engine")
	f.StringToStringVar(&cfg.ProcessImages, "process-image", nil, "IMAGE=PATH: the executable that the process engine runs for an image; repeatable")
	f.StringVar(&cfg.Firewall, "firewall", cfg.Firewall, "auto shuts the containers' ports to all but the nodes (iptables; needs root); off leaves that to you")
	f.StringVar(&cfg.Profile, "profile", cfg.Profile, "timings of Raft and gossip: lan (one network), cloud (several zones) or wan")
	f.StringVar(&cfg.SnapshotTo, "snapshot-to", "", "where the leader keeps files of the cluster's state: a folder, or s3://BUCKET?region=REGION")
	f.DurationVar(&cfg.SnapshotEvery, "snapshot-every", cfg.SnapshotEvery, "how often it writes one")
	f.IntVar(&cfg.SnapshotKeep, "snapshot-keep", cfg.SnapshotKeep, "how many it keeps")
}

func checkEngine(cfg *agent.Config, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "check-engine", Short: "Say whether the container engine answers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := agent.CheckEngine(cmd.Context(), *cfg); err != nil {
				return err
			}
			fmt.Fprintln(stdout, cfg.Engine, "answers")
			return nil
		},
	}
}

func purge(cfg *agent.Config, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "purge", Short: "Kill and remove every container of this node, and its rules in iptables; orchd must not be running", Args: cobra.NoArgs,
		Long: `Kill and remove every container of this node, and its rules in iptables; orchd must not be running.

Which node it is stands in the data folder. Give --data-dir, --engine and --process-image as
orchd was given them.`,
		Example: "  orchd purge\n  orchd purge --data-dir /var/lib/orchd/left-fd59c3aa-1234567",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("node-id") {
				cfg.NodeID = "" // whichever the folder is of
			}
			node, n, err := agent.Purge(cmd.Context(), cfg.Complete())
			if err != nil {
				return err
			}
			if node == "" {
				fmt.Fprintf(stdout, "nothing was removed: %s is the data folder of no node that is in a cluster (--data-dir names another)\n", cfg.DataDir)
				return nil
			}
			fmt.Fprintf(stdout, "removed %d containers of node %s\n", n, node)
			return nil
		},
	}
}

func logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: choose debug, info, warn or error", level)
	}
	switch opts := (&slog.HandlerOptions{Level: l}); format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, errors.New("--log-format " + format + ": choose text or json")
}
