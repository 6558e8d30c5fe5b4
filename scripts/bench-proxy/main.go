// Command bench-proxy holds the proxy against HAProxy, nginx and Caddy, as far as they
// are installed, and against its own net/http path: the same backends, the same loads,
// one after the other and around again, so that whatever else the machine does falls on
// all of them. It prints medians and their ratios to HAProxy; it judges nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options of a run.
type options struct {
	role, addr string
	nethttp    bool
	profile    string

	rounds  int
	span    time.Duration
	loads   string
	peers   string
	procs   string
	against string
	exact   bool
	threads int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-proxy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench-proxy", flag.ContinueOnError)
	f.StringVar(&o.role, "role", "", "what a child process is; leave it out")
	f.StringVar(&o.addr, "addr", "", "where a child process listens; leave it out")
	f.BoolVar(&o.nethttp, "nethttp", false, "of a child process; leave it out")
	f.StringVar(&o.profile, "profile", "", "folder for a processor profile of each of our paths, taken over the whole run")
	f.IntVar(&o.rounds, "rounds", 3, "how often each peer gets each load, 1 to 100")
	f.DurationVar(&o.span, "span", 2*time.Second, "how long each load lasts, 200ms to 1m")
	f.StringVar(&o.loads, "loads", "all", "loads, separated by commas: "+strings.Join(loadNames(), ","))
	f.StringVar(&o.peers, "peers", "all", "peers, separated by commas: "+strings.Join(peerNames(), ","))
	f.StringVar(&o.procs, "procs", "0", "GOMAXPROCS of our path, or several to compare, separated by commas; 0 is what orchd chooses")
	f.StringVar(&o.against, "against", "", "another build of this program, whose path becomes the peer \"before\"")
	f.BoolVar(&o.exact, "exact", false, "measure leased and exact turns on three real nodes instead")
	f.IntVar(&o.threads, "threads", 2, "threads of HAProxy and nginx")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch o.role {
	case "backend":
		return backend(ctx, strings.Split(o.addr, ","))
	case "proxy":
		return serve(ctx, o)
	case "parked":
		return park(ctx, o.addr)
	case "slow":
		return trickle(ctx, o.addr)
	case "":
	default:
		return fmt.Errorf("-role %q: leave it out", o.role)
	}
	switch {
	case o.rounds < 1 || o.rounds > 100:
		return fmt.Errorf("-rounds %d: choose 1 to 100", o.rounds)
	case o.span < 200*time.Millisecond || o.span > time.Minute:
		return fmt.Errorf("-span %v: choose 200ms to 1m", o.span)
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk makes the load and is not installed: apt-get install wrk")
	}
	if o.exact {
		return exact(ctx, o, out)
	}
	return measure(ctx, o, out)
}

// measure runs every load against every peer, in turn.
func measure(ctx context.Context, o options, out io.Writer) (err error) {
	loads, err := chosen(o.loads, allLoads, func(l load) string { return l.name })
	if err != nil {
		return fmt.Errorf("-loads: %w", err)
	}
	kinds, err := chosen(o.peers, allPeers, func(p peer) string { return p.name })
	if err != nil {
		return fmt.Errorf("-peers: %w", err)
	}
	dir, err := os.MkdirTemp("", "bench-proxy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := newBench(ctx, o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if o.against != "" {
		kinds = append([]peer{before(o.against)}, kinds...)
	}
	for _, kind := range kinds {
		if procs := strings.Split(o.procs, ","); kind.name == "own" && len(procs) > 1 {
			for _, n := range procs {
				if err := b.launch(ctx, ownWith(n)); err != nil {
					return err
				}
			}
			continue
		}
		if err := b.launch(ctx, kind); err != nil {
			return err
		}
	}
	for _, l := range loads {
		results := map[string][]result{}
		for range o.rounds {
			for _, p := range b.running {
				r, err := b.one(ctx, l, p)
				if err != nil {
					return fmt.Errorf("%s, load %s: %w", p.name, l.name, err)
				}
				results[p.name] = append(results[p.name], r)
			}
		}
		report(out, l, b.running, results)
	}
	return nil
}

// chosen picks the members of all that a list names.
func chosen[T any](list string, all []T, name func(T) string) ([]T, error) {
	if list == "all" {
		return all, nil
	}
	var out []T
	for want := range strings.SplitSeq(list, ",") {
		found := false
		for _, x := range all {
			if name(x) == want {
				out, found = append(out, x), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %q", want)
		}
	}
	return out, nil
}
