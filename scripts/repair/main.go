// Command repair measures how long a cluster of three real nodes takes to mend
// itself: containers killed and crashed, leaders lost, and what a node costs at
// rest. It prints median and worst of each; it judges nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orch/scripts/lab"
)

const spec = `name: acts
image: IMAGE
user: "10001:10001"
env: {ACTS_DATA: /data}
volumes: [{name: acts, target: /data}]
expose_internal: true
debug_headers: true
scale: {min: 6, max: 10}
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "repair:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	f := flag.NewFlagSet("repair", flag.ContinueOnError)
	runs := f.Int("runs", 20, "how often each fault is made, 1 to 100")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *runs < 1 || *runs > 100 {
		return fmt.Errorf("-runs %d: choose 1 to 100", *runs)
	}
	dir, err := os.MkdirTemp("", "repair")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	p, err := lab.Build(ctx, root, dir, false)
	if err != nil {
		return err
	}
	defer p.Close()
	if p.Engine != "docker" {
		return errors.New("no Docker Engine answers: repair times of anything else would mean little")
	}
	c := lab.New(p, dir, 3)
	defer func() { err = errors.Join(err, c.Down()) }()
	path, err := c.Spec("acts", spec)
	if err != nil {
		return err
	}
	if err := c.Up(ctx, path); err != nil {
		return err
	}
	if err := settled(ctx, c); err != nil {
		return err
	}
	fmt.Fprintf(out, "%-52s %5s %9s %9s\n", "", "runs", "median", "worst")
	for _, m := range []struct {
		name  string
		fault func(context.Context, *lab.Cluster, int) ([]time.Duration, error)
		parts []string
	}{
		{"", killed, []string{"container killed -> Status True again"}},
		{"", crashed, []string{"crash flag -> out of rotation", "crash flag -> Status True again"}},
		{"", leaderLost, []string{"leader killed -> new leader has polled every container"}},
	} {
		times := make([][]time.Duration, len(m.parts))
		for i := range *runs {
			ts, err := m.fault(ctx, c, i)
			if err != nil {
				return err
			}
			for k, t := range ts {
				times[k] = append(times[k], t)
			}
			if err := settled(ctx, c); err != nil {
				return err
			}
		}
		for k, name := range m.parts {
			print(out, name, times[k])
		}
	}
	return atRest(ctx, out, c)
}

func print(out io.Writer, name string, times []time.Duration) {
	slices.Sort(times)
	fmt.Fprintf(out, "%-52s %5d %8.2fs %8.2fs\n", name, len(times), times[len(times)/2].Seconds(), times[len(times)-1].Seconds())
}

// settled waits until all rows are healthy on every node, and have been for long
// enough that no back-off is left over from the fault before.
func settled(ctx context.Context, c *lab.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, n := range c.Nodes {
		if _, err := n.Healthy(ctx, 6); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(11 * time.Second): // failures are forgotten after 10 s of health
		return nil
	}
}

// watch waits until a row of the table, as n knows it, fits.
func watch(ctx context.Context, n *lab.Node, number int, fits func(lab.Row) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return lab.Until(ctx, 5*time.Millisecond, func() error {
		rows, err := n.PS(ctx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Number == number && fits(r) {
				return nil
			}
		}
		return fmt.Errorf("row %d does not fit yet: %+v", number, rows)
	})
}

func killed(ctx context.Context, c *lab.Cluster, i int) ([]time.Duration, error) {
	n := c.Nodes[0]
	rows, err := n.PS(ctx)
	if err != nil {
		return nil, err
	}
	r := rows[i%len(rows)]
	id, err := lab.ContainerID(ctx, r)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := lab.Docker(ctx, "kill", id); err != nil {
		return nil, err
	}
	err = watch(ctx, n, r.Number, func(now lab.Row) bool { return now.Generation > r.Generation && now.Status })
	return []time.Duration{time.Since(began)}, err
}

func crashed(ctx context.Context, c *lab.Cluster, i int) ([]time.Duration, error) {
	n := c.Nodes[0]
	rows, err := n.PS(ctx)
	if err != nil {
		return nil, err
	}
	r := rows[i%len(rows)]
	began := time.Now()
	resp, err := c.HTTP.Post("http://"+r.Addr+"/api/v1/_crash", "application/json", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if err := watch(ctx, n, r.Number, func(now lab.Row) bool { return now.Generation > r.Generation || !now.Status }); err != nil {
		return nil, err
	}
	outOf := time.Since(began)
	err = watch(ctx, n, r.Number, func(now lab.Row) bool { return now.Generation > r.Generation && now.Status })
	return []time.Duration{outOf, time.Since(began)}, err
}

// leaderLost kills the leader and waits for the event by which its successor says
// that it has polled every container.
func leaderLost(ctx context.Context, c *lab.Cluster, _ int) ([]time.Duration, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	other := c.Nodes[0]
	if other == leader {
		other = c.Nodes[1]
	}
	before, err := other.Events(ctx)
	if err != nil {
		return nil, err
	}
	last := uint64(0)
	for _, e := range before {
		last = max(last, e.Index)
	}
	began := time.Now()
	leader.Kill()
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = lab.Until(wait, 5*time.Millisecond, func() error {
		events, err := other.Events(wait)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Index > last && e.Kind == "polled" {
				return nil
			}
		}
		return errors.New("the new leader has not polled yet")
	})
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	return []time.Duration{took}, leader.Start(ctx)
}

// atRest prints memory and processor time of each node with ten containers in the
// cluster and no requests.
func atRest(ctx context.Context, out io.Writer, c *lab.Cluster) error {
	if _, err := c.Nodes[0].Ctl(ctx, "scale", "acts", "10"); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := c.Nodes[0].Healthy(wait, 10); err != nil {
		return err
	}
	const window = 20 * time.Second
	before := map[string]float64{}
	for _, n := range c.Nodes {
		before[n.ID] = cpuSeconds(n.Pid())
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(window):
	}
	leader, err := c.Leader(wait)
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		role := "follower"
		if n == leader {
			role = "leader"
		}
		fmt.Fprintf(out, "at rest, 10 containers: %s (%s): %.1f MiB RSS, %.2f%% of a core\n",
			n.ID, role, rssMiB(n.Pid()), (cpuSeconds(n.Pid())-before[n.ID])/window.Seconds()*100)
	}
	return nil
}

// cpuSeconds is user and system time of a process (proc(5): fields 14 and 15 of
// stat, in ticks of 1/100 s).
func cpuSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func rssMiB(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}
