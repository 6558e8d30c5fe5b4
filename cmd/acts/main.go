// Command acts is the photo service that runs in the containers.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"orch/acts"
)

// version is set at build time (-ldflags -X).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "acts:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	or := func(key, value string) string {
		if v := env(key); v != "" {
			return v
		}
		return value
	}
	cfg := acts.Config{Logger: slog.New(slog.NewJSONHandler(stderr, nil))}
	root := &cobra.Command{
		Use: "acts", Short: "SelfieLessActs: people share photos of good deeds they see", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return acts.Run(cmd.Context(), cfg) },
	}
	root.Flags().StringVar(&cfg.Listen, "listen", or("ACTS_LISTEN", ":8000"), "address to listen on ($ACTS_LISTEN)")
	root.Flags().StringVar(&cfg.Data, "data", or("ACTS_DATA", "/data"), "folder shared by the processes of one machine ($ACTS_DATA)")
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}
