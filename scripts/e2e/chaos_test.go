package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestThreeNodesUnderLoad is the main promise: three nodes, six containers, load
// through all three; a container that crashes, one that is killed, and the leader
// lost without warning. No GET through a living node fails, but for those that
// were in flight in the container that died.
func TestThreeNodesUnderLoad(t *testing.T) {
	c, ctx := cluster(t, 3, spec(6, 6))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 6); err != nil {
		t.Fatal(err)
	}
	load := start(ctx, c)
	defer load.end()

	crash(t, ctx, c)
	kill(t, ctx, c)

	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	before, err := leader.PS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	load.forget(leader) // requests to a dead node fail, and are not ours to count
	leader.Kill()
	var others []*lab.Node
	for _, n := range c.Nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	next, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if next == leader {
		t.Fatalf("%s leads although it was killed", leader.ID)
	}
	served := load.OK.Load()
	if err := lab.Until(within(t, ctx, 20*time.Second), 20*time.Millisecond, func() error {
		if got := load.OK.Load(); got < served+200 {
			return fmt.Errorf("%d requests served since the leader was lost, want 200", got-served)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// The new leader polls and relaunches: a crash now is healed by it.
	crashOn(t, ctx, c, others[0], func(r lab.Row) bool { return r.Node != leader.ID })

	adopted := rowsOn(before, leader.ID)
	ids := containerIDs(t, ctx, adopted)
	if err := leader.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Healthy(within(t, ctx, 60*time.Second), 6); err != nil {
		t.Fatal(err)
	}
	if got := containerIDs(t, ctx, adopted); strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("%s came back and runs containers %v, want the adopted %v", leader.ID, got, ids)
	}
	load.end()
	report(t, load)
}

// running is a load in the background, one canceller a node.
type running struct {
	lab.Load
	cancel map[*lab.Node]context.CancelFunc
	wg     sync.WaitGroup
}

func start(ctx context.Context, c *lab.Cluster) *running {
	l := &running{cancel: map[*lab.Node]context.CancelFunc{}}
	for _, n := range c.Nodes {
		ctx, cancel := context.WithCancel(ctx)
		l.cancel[n] = cancel
		l.wg.Go(func() { l.Run(ctx, n, "/api/v1/categories", 5*time.Millisecond) })
	}
	return l
}

func (l *running) forget(n *lab.Node) { l.cancel[n]() }

func (l *running) end() {
	for _, cancel := range l.cancel {
		cancel()
	}
	l.wg.Wait()
}

// report allows, for the one container that was killed, what it had in flight.
func report(t *testing.T, l *running) {
	t.Helper()
	failures := l.Failures()
	t.Logf("%d requests answered, %d failed", l.OK.Load(), len(failures))
	if len(failures) > lab.Workers*3 {
		t.Errorf("more failed than were in flight: %v", failures)
	}
	for _, f := range failures {
		t.Logf("failed: %s through %s: %s", f.At.Format(time.TimeOnly), f.Node, f.What)
	}
}

// crash posts to _crash through the first node and waits until that container is
// replaced on its port.
func crash(t *testing.T, ctx context.Context, c *lab.Cluster) {
	t.Helper()
	crashOn(t, ctx, c, c.Nodes[0], func(lab.Row) bool { return true })
}

func crashOn(t *testing.T, ctx context.Context, c *lab.Cluster, via *lab.Node, fits func(lab.Row) bool) {
	t.Helper()
	before, err := via.PS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range before {
		if !r.Status || !fits(r) {
			continue
		}
		resp, err := c.HTTP.Post("http://"+r.Addr+"/api/v1/_crash", "application/json", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		replaced(t, ctx, via, r)
		return
	}
	t.Fatalf("no healthy row fits: %+v", before)
}

// kill kills one container from outside, as the kernel would.
func kill(t *testing.T, ctx context.Context, c *lab.Cluster) {
	t.Helper()
	rows, err := c.Nodes[1].PS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := rows[len(rows)-1]
	if _, err := lab.Docker(ctx, "kill", containerIDs(t, ctx, []lab.Row{r})[0]); err != nil {
		t.Fatal(err)
	}
	replaced(t, ctx, c.Nodes[1], r)
}

// replaced waits until a row is healthy again, on its port, one generation on.
func replaced(t *testing.T, ctx context.Context, n *lab.Node, old lab.Row) lab.Row {
	t.Helper()
	var now lab.Row
	began := time.Now()
	err := lab.Until(within(t, ctx, 20*time.Second), 10*time.Millisecond, func() error {
		rows, err := n.PS(ctx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Service == old.Service && r.Number == old.Number && r.Generation > old.Generation && r.Status {
				now = r
				return nil
			}
		}
		return fmt.Errorf("%s/%d is not back: %+v", old.Service, old.Number, rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	if now.Port != old.Port {
		t.Errorf("%s/%d came back on port %d, want %d", old.Service, old.Number, now.Port, old.Port)
	}
	t.Logf("%s/%d is back after %s: %s", old.Service, old.Number, time.Since(began).Round(time.Millisecond), now.Reason)
	return now
}

func rowsOn(rows []lab.Row, node string) (on []lab.Row) {
	for _, r := range rows {
		if r.Node == node {
			on = append(on, r)
		}
	}
	return on
}

func containerIDs(t *testing.T, ctx context.Context, rows []lab.Row) (ids []string) {
	t.Helper()
	for _, r := range rows {
		id, err := lab.ContainerID(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
