package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orch/scripts/lab"
)

// derived builds an image of acts that is another one by the lines of a Dockerfile.
func derived(t *testing.T, name string, lines ...string) string {
	t.Helper()
	if programs.Engine != "docker" {
		t.Skip("images are Docker's")
	}
	tag := programs.Image + "-" + name
	cmd := exec.CommandContext(t.Context(), "docker", "build", "-q", "-t", tag, "-")
	cmd.Stdin = strings.NewReader("FROM " + programs.Image + "\n" + strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", tag, err, out)
	}
	t.Cleanup(func() { exec.Command("docker", "rmi", "-f", tag).Run() })
	return tag
}

// posting sends POSTs of new categories through nodes, one at a time through each, until
// it is stopped; what is not answered 201 is an error of the test. No POST is sent twice
// by a proxy that cannot know what became of the first.
func posting(t *testing.T, ctx context.Context, c *lab.Cluster, nodes []*lab.Node) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var done atomic.Int64
	ended := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				body := strings.NewReader(fmt.Sprintf(`["%s-%d"]`, n.ID, i))
				resp, err := c.HTTP.Post(n.URL("/api/v1/categories"), "application/json", body)
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != http.StatusCreated {
						err = fmt.Errorf("POST through %s: %s from %s", n.ID, resp.Status, resp.Header.Get("X-Orch-Container"))
					}
				}
				if err != nil {
					ended <- err
					return
				}
				done.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
			ended <- nil
		}()
	}
	return func() int64 {
		cancel()
		for range nodes {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		return done.Load()
	}
}

type revision struct {
	Revision uint64 `json:"revision"`
	Image    string `json:"image"`
	From     uint64 `json:"from"`
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason"`
}

func history(t *testing.T, n *lab.Node) ([]revision, error) {
	t.Helper()
	out, err := n.Ctl(t.Context(), "history", "acts", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list []revision
	return list, json.Unmarshal([]byte(out), &list)
}

// ends waits until the newest revision is number, with that outcome.
func ends(t *testing.T, ctx context.Context, n *lab.Node, number uint64, outcome string) []revision {
	t.Helper()
	var list []revision
	err := lab.Until(ctx, 200*time.Millisecond, func() (err error) {
		if list, err = history(t, n); err != nil {
			return err
		}
		if list[0].Revision != number || list[0].Outcome != outcome {
			return fmt.Errorf("the newest first: %+v", list)
		}
		return nil
	})
	if err != nil {
		rows, _ := n.PS(t.Context())
		t.Fatalf("revision %d, %s: %v\n%+v", number, outcome, err, rows)
	}
	return list
}

// allOf checks that rows 1 to want stand in their ports and run image.
func allOf(rows []lab.Row, want int, image string) error {
	for i, r := range rows {
		if r.Number != i+1 || r.Port != 8000+i || r.Image != image || !r.Status {
			return fmt.Errorf("row %+v", r)
		}
	}
	if len(rows) != want {
		return fmt.Errorf("%d rows", len(rows))
	}
	return nil
}

func changed(yaml, image string, more ...string) string {
	return strings.ReplaceAll(yaml, "IMAGE", image) + strings.Join(more, "\n") + "\n"
}

// TestRollOutLosesNothing: a new image and then a new environment under load through
// every node, the second with the death of the leader in its middle. No GET and no POST
// fails, and the rows have the numbers and ports that they had.
func TestRollOutLosesNothing(t *testing.T) {
	second := derived(t, "second", "LABEL release=2", "ENV RELEASE=2")
	base := spec(3, 3)
	c, ctx := cluster(t, 3, base)
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	ends(t, within(t, ctx, 10*time.Second), c.Nodes[0], 1, "good")
	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var others []*lab.Node
	for _, n := range c.Nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	stopAll, all := loading(t, ctx, c.Nodes)
	stopPosts := posting(t, ctx, c, others)

	began := time.Now()
	apply(t, c, leader, "second", changed(base, second))
	ends(t, within(t, ctx, 60*time.Second), others[0], 2, "good")
	rows, err := others[0].Healthy(within(t, ctx, 10*time.Second), 3)
	if err == nil {
		err = allOf(rows, 3, second)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("3 containers of a new image after %s, %d requests meanwhile", time.Since(began).Round(time.Millisecond), all.OK.Load())
	stopAll()
	for _, f := range all.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}

	stopSome, some := loading(t, ctx, others)
	began = time.Now()
	apply(t, c, others[0], "third", changed(base, second, `uncounted: ["/x"]`))
	if list := ends(t, within(t, ctx, 20*time.Second), others[0], 3, "good"); len(list) != 3 {
		t.Errorf("history %+v", list)
	}
	rows, err = others[0].PS(ctx)
	if err != nil || rows[0].Generation != 2 {
		t.Errorf("what concerns no container replaced one: %+v, %v", rows, err)
	}
	apply(t, c, others[0], "fourth", strings.Replace(changed(base, second), "env: {", "env: {NEW: yes, ", 1))
	err = lab.Until(within(t, ctx, 60*time.Second), 10*time.Millisecond, func() error {
		rows, err := others[0].PS(ctx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Generation == 3 {
				return nil
			}
		}
		return fmt.Errorf("no row has begun anew: %+v", rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	ends(t, within(t, ctx, 90*time.Second), others[0], 4, "good")
	rows, err = others[0].Healthy(within(t, ctx, 20*time.Second), 3)
	if err == nil {
		err = allOf(rows, 3, second)
	}
	if err != nil {
		t.Fatal(err)
	}
	stopSome()
	posts := stopPosts()
	t.Logf("the leader %s died in the middle; done after %s, %d GETs and %d POSTs", leader.ID, time.Since(began).Round(time.Millisecond), some.OK.Load(), posts)
	for _, f := range some.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}
}

// TestBadVersionGoesBack by itself, with the reason, under load, and no container that
// serves is touched. Then `orchctl rollback` and `restart` by hand.
func TestBadVersionGoesBack(t *testing.T) {
	bad := derived(t, "bad", `ENTRYPOINT ["/acts", "--no-such-flag"]`)
	second := derived(t, "good", "ENV RELEASE=2")
	base := spec(3, 3)
	c, ctx := cluster(t, 3, base)
	first, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 3)
	if err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	ends(t, within(t, ctx, 10*time.Second), c.Nodes[0], 1, "good")
	stop, load := loading(t, ctx, c.Nodes)

	apply(t, c, c.Nodes[1], "bad", changed(base, bad, "health: {start_timeout: 3s}", "rollout: {healthy_within: 5s}"))
	list := ends(t, within(t, ctx, 60*time.Second), c.Nodes[2], 3, "good")
	if list[1].Outcome != "failed" || !strings.Contains(list[1].Reason, "acts/4") || list[0].From != 1 || list[0].Image != programs.Image {
		t.Errorf("history %+v", list)
	}
	t.Logf("went back: %s", list[1].Reason)
	rows, err := c.Nodes[0].Healthy(within(t, ctx, 20*time.Second), 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if r.Generation != first[i].Generation || r.Node != first[i].Node || r.Image != programs.Image {
			t.Errorf("row %+v was touched; it was %+v", r, first[i])
		}
	}
	events, err := c.Nodes[0].Events(ctx)
	told := false
	for _, e := range events {
		told = told || e.Kind == "rolled-back" && strings.Contains(e.Reason, "from revision 2 to 1") && strings.Contains(e.Reason, "acts/4")
	}
	if err != nil || !told {
		t.Errorf("no event tells of it: %v", err)
	}

	apply(t, c, c.Nodes[0], "second", changed(base, second))
	ends(t, within(t, ctx, 60*time.Second), c.Nodes[0], 4, "good")
	if out, err := c.Nodes[1].Ctl(ctx, "rollback", "acts", "--why", "too slow"); err != nil || !strings.Contains(out, "from revision 4") {
		t.Fatalf("%v %s", err, out)
	}
	ends(t, within(t, ctx, 60*time.Second), c.Nodes[0], 5, "good")
	if out, err := c.Nodes[1].Ctl(ctx, "restart", "acts"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	ends(t, within(t, ctx, 60*time.Second), c.Nodes[0], 6, "good")
	rows, err = c.Nodes[0].Healthy(within(t, ctx, 20*time.Second), 3)
	if err == nil {
		err = allOf(rows, 3, programs.Image)
	}
	if err != nil || rows[0].Generation != 4 {
		t.Errorf("%v, %+v", err, rows)
	}
	stop()
	t.Logf("%d requests, %d failed", load.OK.Load(), len(load.Failures()))
	for _, f := range load.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}
}

// TestDrainNodeLosesNothing: a node's containers move before they are taken, and come
// back when it is undrained; it proxies all the while, and stays a member.
func TestDrainNodeLosesNothing(t *testing.T) {
	c, ctx := cluster(t, 3, spec(6, 6))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 6); err != nil {
		t.Fatal(err)
	}
	serving(t, c)
	on := func(rows []lab.Row, id string) (n int) {
		for _, r := range rows {
			if r.Node == id {
				n++
			}
		}
		return n
	}
	stop, load := loading(t, ctx, c.Nodes)
	stopPosts := posting(t, ctx, c, c.Nodes)
	await := func(what string, n int, limit time.Duration) {
		t.Helper()
		began := time.Now()
		err := lab.Until(within(t, ctx, limit), 50*time.Millisecond, func() error {
			rows, err := c.Nodes[0].PS(ctx)
			if err == nil && on(rows, "n2") == n {
				err = allOf(rows, 6, programs.Image)
			} else if err == nil {
				err = fmt.Errorf("%d on n2", on(rows, "n2"))
			}
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
	}
	await("each node has its share", 2, 60*time.Second)
	if out, err := c.Nodes[0].Ctl(ctx, "drain", "n2", "--deadline", "5m"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	await("drained", 0, 60*time.Second)
	if out, err := c.Nodes[0].Ctl(ctx, "nodes"); err != nil || !strings.Contains(out, "draining") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := c.Nodes[2].Ctl(ctx, "undrain", "n2"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	await("undrained, with its share", 2, 90*time.Second)
	stop()
	t.Logf("%d GETs and %d POSTs", load.OK.Load(), stopPosts())
	for _, f := range load.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}
}

// TestRowsComeBack: a machine is lost and returns; its rows come back one by one, and no
// request fails by that.
func TestRowsComeBack(t *testing.T) {
	c, ctx := cluster(t, 3, spec(6, 6))
	rows, err := c.Nodes[0].Healthy(within(t, ctx, 60*time.Second), 6)
	if err != nil {
		t.Fatal(err)
	}
	if programs.Engine != "docker" {
		t.Skip("the machine's containers are ended through Docker")
	}
	lost := c.Nodes[2]
	gone := containerIDs(t, ctx, rowsOn(rows, lost.ID))
	lost.Kill()
	if _, err := lab.Docker(ctx, append([]string{"rm", "-f"}, gone...)...); err != nil {
		t.Fatal(err)
	}
	on := func(want int) func() error {
		return func() error {
			rows, err := c.Nodes[0].PS(ctx)
			if err == nil {
				err = allOf(rows, 6, programs.Image)
			}
			if n := len(rowsOn(rows, lost.ID)); err == nil && n != want {
				err = fmt.Errorf("%d rows on %s, want %d", n, lost.ID, want)
			}
			return err
		}
	}
	if err := lab.Until(within(t, ctx, 60*time.Second), 50*time.Millisecond, on(0)); err != nil {
		t.Fatalf("made elsewhere: %v", err)
	}
	stop, load := loading(t, ctx, c.Nodes[:2])
	began := time.Now()
	if err := lost.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(within(t, ctx, 90*time.Second), 50*time.Millisecond, on(2)); err != nil {
		t.Fatalf("back: %v", err)
	}
	stop()
	t.Logf("two rows are back %s after the start of their node; %d requests", time.Since(began).Round(time.Millisecond), load.OK.Load())
	for _, f := range load.Failures() {
		t.Errorf("failed through %s: %s", f.Node, f.What)
	}
}

// TestImageBuiltAgain under its tag is a new version, and the one before is what
// `orchctl rollback` goes back to, though nothing bears its name any more.
func TestImageBuiltAgain(t *testing.T) {
	tag := derived(t, "moving", "ENV RELEASE=1")
	yaml := changed(spec(1, 1), tag)
	first := ""
	t.Cleanup(func() { // after the cluster, whose container runs it at the end; it has no name by then
		if out, err := exec.Command("docker", "rmi", "-f", first).CombinedOutput(); err != nil {
			t.Errorf("remove image %s: %v: %s", first, err, out)
		}
	})
	c, ctx := cluster(t, 1, yaml)
	n := c.Nodes[0]
	runs := func() string {
		t.Helper()
		rows, err := n.Healthy(within(t, ctx, 60*time.Second), 1)
		if err != nil {
			t.Fatal(err)
		}
		id, err := lab.ContainerID(ctx, rows[0])
		if err == nil {
			id, err = lab.Docker(ctx, "inspect", "--format", "{{.Image}}", id)
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first = runs()
	ends(t, within(t, ctx, 20*time.Second), n, 1, "good")
	derived(t, "moving", "ENV RELEASE=2")
	path, err := c.Spec("again", yaml)
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.Ctl(ctx, "apply", "--yes", "-f", path)
	if err != nil || !strings.Contains(out, "built again") {
		t.Fatalf("%v\n%s", err, out)
	}
	ends(t, within(t, ctx, 60*time.Second), n, 2, "good")
	if second := runs(); second == first {
		t.Errorf("it still runs %s", first)
	}
	if out, err := n.Ctl(ctx, "apply", "-f", path); err != nil || !strings.Contains(out, "nothing changes") {
		t.Errorf("applied again: %v\n%s", err, out)
	}
	if out, err := n.Ctl(ctx, "rollback", "acts"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	ends(t, within(t, ctx, 60*time.Second), n, 3, "good")
	if third := runs(); third != first {
		t.Errorf("back to %s, want %s", third, first)
	}
}
