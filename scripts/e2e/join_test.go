package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// TestWriteWhileTheLeaderIsLost: an election is no reason to fail a command.
func TestWriteWhileTheLeaderIsLost(t *testing.T) {
	c, ctx := cluster(t, 3, spec(1, 10))
	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	other := c.Nodes[0]
	if other == leader {
		other = c.Nodes[1]
	}
	leader.Kill()
	began := time.Now()
	out, err := other.Ctl(ctx, "scale", "acts", "2")
	if took := time.Since(began); err != nil && took >= 3*time.Second && strings.Contains(out, "was found in time") {
		t.Logf("no leader after %s: %s", took, out) // the elections of a slow disk; it was waited for
		if _, err = c.Leader(within(t, ctx, 20*time.Second)); err == nil {
			out, err = other.Ctl(ctx, "scale", "acts", "2")
		}
	}
	if err != nil {
		t.Errorf("after %s: %v: %s", time.Since(began), err, out)
	}
}

// TestWipedVoterBeginsWithoutAVote: a node that has lost its data joins again, is taken
// out of the voters first, and has caught up when join returns.
func TestWipedVoterBeginsWithoutAVote(t *testing.T) {
	c, ctx := cluster(t, 3, spec(1, 10))
	if _, err := c.Nodes[0].Healthy(within(t, ctx, 30*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	wiped := c.Nodes[2]
	via := c.Nodes[1]
	if wiped == leader {
		wiped, via = c.Nodes[1], c.Nodes[0]
	}
	wiped.Kill()
	if err := os.RemoveAll(filepath.Join(wiped.Dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := wiped.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// Its name belongs to the key that it has lost.
	if out, err := wiped.Join(ctx, via); err == nil || !strings.Contains(out, "orchctl remove "+wiped.ID) {
		t.Fatalf("joined with another key: %v, %s", err, out)
	}
	err = lab.Until(within(t, ctx, 60*time.Second), 100*time.Millisecond, func() error {
		_, err := via.Ctl(ctx, "remove", wiped.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := wiped.Join(ctx, via); err != nil {
		t.Fatal(out)
	}
	out, err := wiped.Ctl(ctx, "nodes")
	if err != nil || strings.Contains(out, "nonvoter") || strings.Count(out, "alive")+strings.Count(out, "suspect")+strings.Count(out, "dead") != 3 {
		t.Errorf("nodes: %v\n%s", err, out)
	}
}

// TestInitThatWasCutOff: such a node has a log of its own, and joins no other cluster
// with it; its init can be finished.
func TestInitThatWasCutOff(t *testing.T) {
	c, ctx := cluster(t, 1, "")
	stranger := lab.New(programs, filepath.Join(c.Dir, "x"), 1).Nodes[0]
	stranger.ID = "n2"
	t.Cleanup(stranger.Kill)
	if err := stranger.Start(ctx); err != nil {
		t.Fatal(err)
	}
	block := filepath.Join(stranger.Dir, "data", "node.json")
	if err := os.MkdirAll(filepath.Join(block, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := stranger.Ctl(ctx, "init"); err == nil {
		t.Fatalf("init went through although its identity could not be saved: %s", out)
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	if out, err := stranger.Join(ctx, c.Nodes[0]); err == nil || !strings.Contains(out, "orchctl init") {
		t.Errorf("joined with a log of its own: %v, %s", err, out)
	}
	if out, err := c.Nodes[0].Ctl(ctx, "nodes"); err != nil || strings.Contains(out, "n2") {
		t.Errorf("it got into the table: %v\n%s", err, out)
	}
	if out, err := stranger.Ctl(ctx, "init"); err != nil {
		t.Errorf("the init was not finished: %s", out)
	}
}

// TestJoinWhileTheLeaderIsLost goes through by any node that is left, with the token in a
// file: an election is no reason to type it again.
func TestJoinWhileTheLeaderIsLost(t *testing.T) {
	c, ctx := cluster(t, 3, "")
	leader, err := c.Leader(within(t, ctx, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	via := c.Nodes[0]
	if via == leader {
		via = c.Nodes[1]
	}
	token, err := via.Ctl(ctx, "token", "show", "-q")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.Dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	late := lab.Add(c, "n4", via.IP[:strings.LastIndex(via.IP, ".")]+".4")
	if err := late.Start(ctx); err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	if out, err := late.Ctl(ctx, "join", via.IP+":7480", "--token-file", file); err != nil {
		t.Fatal(out)
	}
	out, err := late.Ctl(ctx, "nodes")
	if err != nil || !strings.Contains(out, "n4") {
		t.Errorf("%v\n%s", err, out)
	}
}
