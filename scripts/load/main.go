// Command load uses a SelfieLessActs service as people do: most of them read, in few
// favourite categories, some vote, a few post photos, and they come in bursts. It is
// for demos, for seeing the cluster scale, and for soaks. It is bounded in requests
// and in time, and takes away what it made unless told to keep it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Config of one run.
type Config struct {
	Addrs      []string      // base URLs; visits go to them in turn
	Rate       float64       // visits a second between bursts
	Burst      float64       // factor of Rate during a burst
	Every      time.Duration // mean time from the end of a burst to the next
	Lasting    time.Duration // mean length of a burst
	For        time.Duration
	Requests   int64 // at most
	People     int   // visits at once, at most
	Users      int
	Categories int
	Skew       float64 // zipf exponent over the categories, above 1
	Photo      int     // bytes of a posted photo, about
	Seed       uint64
	Keep       bool
}

// Limits of a run, so that a typing error does no harm.
const (
	maxFor      = 24 * time.Hour
	maxRequests = 10_000_000
	maxRate     = 20_000 // visits a second
	maxPeople   = 2_000
)

// Default is what a laptop and a demo stand.
func Default() Config {
	return Config{
		Addrs: []string{"http://127.0.0.1"}, Rate: 5, Burst: 8, Every: 20 * time.Second, Lasting: 4 * time.Second,
		For: time.Minute, Requests: 100_000, People: 64, Users: 20, Categories: 12, Skew: 1.3, Photo: 40 << 10, Seed: 1,
	}
}

// Validate names every flag that is wrong.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, flag string, value any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("-%s %v: %s", flag, value, want))
		}
	}
	for _, a := range c.Addrs {
		u, err := url.Parse(a)
		check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "", "addr", a, "write it as http://HOST or http://HOST:PORT")
	}
	check(c.Rate > 0 && c.Rate <= maxRate, "rate", c.Rate, fmt.Sprintf("choose above 0, up to %d visits a second", maxRate))
	check(c.Burst >= 1 && c.Burst <= 100, "burst", c.Burst, "choose 1 (none) to 100")
	check(c.Every >= time.Second && c.Every <= time.Hour, "every", c.Every, "choose 1s to 1h")
	check(c.Lasting >= 100*time.Millisecond && c.Lasting <= time.Hour, "lasting", c.Lasting, "choose 100ms to 1h")
	check(c.For > 0 && c.For <= maxFor, "for", c.For, fmt.Sprintf("choose up to %s", maxFor))
	check(c.Requests >= 1 && c.Requests <= maxRequests, "requests", c.Requests, fmt.Sprintf("choose 1 to %d", maxRequests))
	check(c.People >= 1 && c.People <= maxPeople, "people", c.People, fmt.Sprintf("choose 1 to %d", maxPeople))
	check(c.Users >= 1 && c.Users <= 1000, "users", c.Users, "choose 1 to 1000")
	check(c.Categories >= 1 && c.Categories <= 1000, "categories", c.Categories, "choose 1 to 1000")
	check(int64(c.Users+c.Categories) < c.Requests, "requests", c.Requests, fmt.Sprintf("choose more than the %d that make the users and categories", c.Users+c.Categories))
	check(c.Skew > 1 && c.Skew <= 5, "skew", c.Skew, "choose above 1 (even) up to 5 (nearly all in one)")
	check(c.Photo >= 1<<10 && c.Photo <= 8<<20, "photo", c.Photo, "choose 1024 to 8388608 bytes")
	return errors.Join(errs...)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	c, err := parse(args, out)
	if err != nil {
		return err
	}
	t, err := Run(ctx, c, out)
	if t != nil {
		t.print(out)
	}
	if err == nil && t.failed() > 0 {
		err = fmt.Errorf("%d of %d requests failed", t.failed(), t.all())
	}
	return err
}

func parse(args []string, out io.Writer) (Config, error) {
	c := Default()
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(out)
	addrs := f.String("addr", strings.Join(c.Addrs, ","), "base URLs, separated by commas")
	f.Float64Var(&c.Rate, "rate", c.Rate, "visits a second between bursts; a visit is 3 to 5 requests")
	f.Float64Var(&c.Burst, "burst", c.Burst, "factor of the rate during a burst, 1 for none")
	f.DurationVar(&c.Every, "every", c.Every, "mean time between bursts")
	f.DurationVar(&c.Lasting, "lasting", c.Lasting, "mean length of a burst")
	f.DurationVar(&c.For, "for", c.For, "end after this time, of which making the users and categories is a part")
	f.Int64Var(&c.Requests, "requests", c.Requests, "end after so many requests, those that make users and categories included")
	f.IntVar(&c.People, "people", c.People, "visits at once, at most")
	f.IntVar(&c.Users, "users", c.Users, "user names to post under")
	f.IntVar(&c.Categories, "categories", c.Categories, "categories")
	f.Float64Var(&c.Skew, "skew", c.Skew, "zipf exponent over the categories")
	f.IntVar(&c.Photo, "photo", c.Photo, "size of a posted photo in bytes, about")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "the same seed makes the same visits in the same order")
	f.BoolVar(&c.Keep, "keep", c.Keep, "leave the users, categories and acts there")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("%q: load takes flags only; see -help", f.Arg(0))
	}
	c.Addrs = strings.Split(strings.TrimSuffix(*addrs, "/"), ",")
	return c, c.Validate()
}
