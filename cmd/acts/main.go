// Command acts is the photo service that runs in the containers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // the image has no certificates of its own

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
	var databaseFile, maxPhoto string
	root := &cobra.Command{
		Use: "acts", Short: "SelfieLessActs: people share photos of good deeds they see", Version: version,
		Long: `SelfieLessActs: people share photos of good deeds they see.

Secrets are no arguments: the DSN of PostgreSQL comes from $ACTS_DATABASE or the file of
--database-file, the keys of S3 from the AWS variables, files or the machine's role.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup)); err != nil {
				cfg.Logger.Info("no limit of memory is known", "reason", err)
			}
			if err := secret(&cfg.Database, env("ACTS_DATABASE"), databaseFile); err != nil {
				return err
			}
			n, err := strconv.Atoi(maxPhoto)
			if err != nil {
				return fmt.Errorf("--max-photo %q: is no whole number; give MiB, such as %d", maxPhoto, acts.DefaultMaxPhoto)
			}
			cfg.MaxPhoto = n
			return acts.Run(cmd.Context(), cfg)
		},
	}
	strict, err := strconv.ParseBool(or("ACTS_STRICT_IMAGES", "false"))
	if err != nil {
		return fmt.Errorf("ACTS_STRICT_IMAGES=%q: choose true or false", env("ACTS_STRICT_IMAGES"))
	}
	f := root.Flags()
	f.StringVar(&cfg.Listen, "listen", or("ACTS_LISTEN", ":8000"), "address to listen on ($ACTS_LISTEN)")
	f.StringVar(&cfg.Metrics, "metrics", or("ACTS_METRICS", ""), "address of Prometheus metrics, none by default ($ACTS_METRICS)")
	f.StringVar(&cfg.Data, "data", or("ACTS_DATA", "/data"), "folder shared by the processes of one machine ($ACTS_DATA)")
	f.StringVar(&databaseFile, "database-file", or("ACTS_DATABASE_FILE", ""), "file with the DSN of PostgreSQL; without it SQLite in the data folder ($ACTS_DATABASE_FILE)")
	f.StringVar(&cfg.Photos, "photos", or("ACTS_PHOTOS", ""), "file:///FOLDER or s3://BUCKET?region=REGION; by default a folder in the data folder ($ACTS_PHOTOS)")
	f.StringVar(&cfg.Serve, "serve", or("ACTS_SERVE", ""), "what to serve: all, users or acts; by default all, or acts with --users-url ($ACTS_SERVE)")
	f.StringVar(&cfg.UsersURL, "users-url", or("ACTS_USERS_URL", ""), "base URL of the users service, which is asked instead of serving users here ($ACTS_USERS_URL)")
	f.StringVar(&cfg.Origin, "origin", or("ACTS_ORIGIN", ""), "public address of this service, told to the users service; by default the one that a request came to ($ACTS_ORIGIN)")
	f.BoolVar(&cfg.Strict, "strict-images", strict, "refuse photos that are no JPEG, PNG, GIF or WebP ($ACTS_STRICT_IMAGES=true)")
	f.StringVar(&maxPhoto, "max-photo", or("ACTS_MAX_PHOTO", strconv.Itoa(acts.DefaultMaxPhoto)), "largest photo that is taken, in `MiB`; the max_body of the proxy must be 1.4 times as much ($ACTS_MAX_PHOTO)")
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// memoryShare of the container's limit is the heap's; the rest is for the database,
// buffers and mapped bodies.
const memoryShare = 0.6

// secret takes a value from the environment or from a file, never from an argument.
func secret(into *string, value, file string) error {
	switch {
	case value != "" && file != "":
		return errors.New("--database-file: $ACTS_DATABASE is set too; give one of them")
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("--database-file: %w", err)
		}
		if value = strings.TrimSpace(string(b)); value == "" {
			return fmt.Errorf("--database-file %q: it is empty; write the DSN into it", file)
		}
	}
	*into = value
	return nil
}
