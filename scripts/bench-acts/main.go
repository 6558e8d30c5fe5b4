// Command bench-acts measures the photo service alone, on SQLite and, where Debian's
// server is installed, on PostgreSQL: pages of a feed, uploads, a category of a hundred
// thousand acts, and the memory of a thousand uploads at once. It prints what it saw
// and judges nothing. Reading needs wrk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	program string
	span    time.Duration
	big     int
	flood   int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-acts:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench-acts", flag.ContinueOnError)
	f.StringVar(&o.program, "program", "bin/acts", "the program to measure")
	f.DurationVar(&o.span, "span", 5*time.Second, "how long each load lasts, 1s to 1m")
	f.IntVar(&o.big, "big", 100_000, "acts in the large category, 100 to 1000000")
	f.IntVar(&o.flood, "flood", 1000, "uploads of 10 MiB at once, 0 to 1000; 0 leaves them out")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.span < time.Second || o.span > time.Minute || o.big < 100 || o.big > 1_000_000 || o.flood < 0 || o.flood > 1000 {
		return errors.New("-span, -big or -flood is out of its range; -help lists them")
	}
	dir, err := os.MkdirTemp("", "bench-acts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user must get in
		return err
	}
	if err := measure(ctx, o, out, "SQLite", filepath.Join(dir, "sqlite"), nil); err != nil {
		return fmt.Errorf("SQLite: %w", err)
	}
	p, err := startPostgres(ctx, filepath.Join(dir, "pg"))
	if errors.Is(err, errNone) {
		fmt.Fprintln(out, "PostgreSQL is left out:", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer p.stop()
	if err := measure(ctx, o, out, "PostgreSQL", filepath.Join(dir, "acts"), p); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}

// measure runs everything on one database.
func measure(ctx context.Context, o options, out io.Writer, name, dir string, p *postgres) error {
	s, err := startActs(ctx, o.program, dir, p)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.settle(ctx, o, p); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", name)
	fmt.Fprintf(out, "  %-44s %10s %16s %14s\n", "", "req/s", "req/s a core", "p99")
	for _, page := range []struct{ what, path string }{
		{"page of 20 acts, photos of 2 KiB in it", "/api/v1/categories/page/acts"},
		{"the same without photos (images=0)", "/api/v1/categories/page/acts?images=0"},
		{fmt.Sprintf("first 20 of %d acts (images=0)", o.big), "/api/v1/categories/big/acts?start=1&end=20&images=0"},
		{"thumbnail of 320 pixels", "/api/v1/acts/1/image?w=320"},
	} {
		before := s.cpu()
		rate, p99, err := wrk(ctx, s.url+page.path, o.span)
		if err != nil {
			return err
		}
		used := s.cpu() - before
		fmt.Fprintf(out, "  %-44s %10.0f %16.0f %14s\n", page.what, rate, rate*o.span.Seconds()/used.Seconds(), p99)
	}
	before := s.cpu()
	done, took, err := s.upload(ctx, o.span)
	if err != nil {
		return err
	}
	used := s.cpu() - before
	fmt.Fprintf(out, "  %-44s %10.0f %16.0f\n", "upload of a photo of 300 KiB, 16 at once", float64(done)/took.Seconds(), float64(done)/used.Seconds())
	if o.flood == 0 {
		return nil
	}
	stored, took, err := s.flood(ctx, o.flood)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %d uploads of 10 MiB at once: %d stored in %s, RSS at most %s\n", o.flood, stored, took.Round(time.Second), s.peak())
	return nil
}
