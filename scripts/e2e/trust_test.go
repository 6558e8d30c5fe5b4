package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orch/scripts/lab"
)

// person runs orchctl as somebody on another machine: with a home of their own and no
// socket.
type person struct{ home string }

func (p person) ctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(programs.Dir, "orchctl"), args...)
	cmd.Env = []string{"HOME=" + p.home, "XDG_CONFIG_HOME=" + p.home}
	cmd.Dir = p.home
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// granted is a person with a role, who has logged in.
func granted(t *testing.T, ctx context.Context, by *lab.Node, name, role string) person {
	t.Helper()
	p := person{t.TempDir()}
	bundle := filepath.Join(p.home, name+".bundle")
	if out, err := by.Ctl(ctx, "grant", name, "--role", role, "--out", bundle); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if info, err := os.Stat(bundle); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bundle: %v, %v", info, err)
	}
	if out, err := p.ctl(ctx, "login", bundle); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

// TestRoles over the network: each may do what its role says, at every node, and is shut
// out at once when it is revoked. Every change says who asked for it.
func TestRoles(t *testing.T) {
	c, ctx := cluster(t, 3, spec(1, 10))
	n1, n2 := c.Nodes[0], c.Nodes[1]
	if _, err := n1.Healthy(within(t, ctx, 30*time.Second), 1); err != nil {
		t.Fatal(err)
	}
	people := map[string]person{}
	for _, role := range []string{"read", "deploy", "admin"} {
		people[role] = granted(t, ctx, n1, "p-"+role, role)
	}
	for _, x := range []struct {
		args []string
		may  string
	}{
		{[]string{"ps"}, "read deploy admin"},
		{[]string{"trust"}, "read deploy admin"},
		{[]string{"scale", "acts", "2"}, "deploy admin"},
		{[]string{"token", "show"}, "admin"},
		{[]string{"grant", "eve", "--role", "admin"}, "admin"},
		{[]string{"drain", "n3", "--deadline", "10s"}, "admin"},
		{[]string{"undrain", "n3"}, "admin"},
	} {
		for role, p := range people {
			out, err := p.ctl(ctx, append([]string{"--addr", n2.IP + ":7480"}, x.args...)...)
			if may := slices.Contains(strings.Fields(x.may), role); (err == nil) != may || !may && !strings.Contains(out, "orchctl grant p-"+role) {
				t.Errorf("%s: %v: %v, %s", role, x.args, err, out)
			}
		}
	}
	stranger := person{t.TempDir()}
	if out, err := stranger.ctl(ctx, "--addr", n1.IP+":7480", "ps"); err == nil || !strings.Contains(out, "orchctl login") {
		t.Errorf("a stranger: %v, %s", err, out)
	}
	if out, err := people["admin"].ctl(ctx, "revoke", "p-deploy"); err != nil {
		t.Fatal(out)
	}
	err := lab.Until(within(t, ctx, 10*time.Second), 20*time.Millisecond, func() error {
		for _, n := range c.Nodes {
			if out, err := people["deploy"].ctl(ctx, "--addr", n.IP+":7480", "ps"); err == nil || !strings.Contains(out, "no grant") {
				return fmt.Errorf("revoked, and let in by %s: %s", n.ID, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	out, err := people["read"].ctl(ctx, "events")
	if err != nil {
		t.Fatal(out)
	}
	for _, want := range []string{"2 containers (by p-", "p-deploy (by p-admin)", "eve has the role admin (by p-admin)", " on n1)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestTokens: what is wrong with one is said, and a join that was cut off costs no
// second use.
func TestTokens(t *testing.T) {
	c, ctx := cluster(t, 1, "")
	n1 := c.Nodes[0]
	other := lab.New(programs, filepath.Join(c.Dir, "o"), 1).Nodes[0]
	other.ID = "n1"
	t.Cleanup(other.Kill)
	if err := other.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := other.Ctl(ctx, "init"); err != nil {
		t.Fatal(out)
	}
	foreign, err := other.Ctl(ctx, "token", "show", "-q")
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(args ...string) string {
		t.Helper()
		out, err := n1.Ctl(ctx, append([]string{"token", "rotate", "-q"}, args...)...)
		if err != nil {
			t.Fatal(out)
		}
		return strings.TrimSpace(out)
	}
	void := rotate()
	expired := rotate("--ttl", "1s")
	joiner := lab.Add(c, "n2", strings.TrimSuffix(n1.IP, ".1")+".2")
	if err := joiner.Start(ctx); err != nil {
		t.Fatal(err)
	}
	refused := func(name, token, want string) {
		t.Helper()
		out, err := joiner.JoinBy(ctx, n1, token)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s; want %q", name, err, out, want)
		}
		if token != "" && strings.Contains(out, token[20:60]) {
			t.Errorf("%s: the token is shown: %s", name, out)
		}
	}
	err = lab.Until(within(t, ctx, 20*time.Second), 200*time.Millisecond, func() error {
		out, err := n1.Ctl(ctx, "token", "show")
		if err == nil && !strings.Contains(out, "void") {
			err = fmt.Errorf("it is still valid: %s", out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refused("expired", expired, "expired")
	good := rotate("--uses", "1")
	refused("none", "", "orchctl token show")
	refused("cut short", good[:70], "copy all of the line")
	refused("a wrong letter", good[:40]+flip(good[40])+good[41:], "copy it again")
	refused("void", void, "not the one that is valid")
	refused("of another cluster", foreign, "not of the cluster that made the token")
	// It is let in, and can not keep what it is given.
	block := filepath.Join(joiner.Dir, "data", "node.json")
	if err := os.MkdirAll(filepath.Join(block, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := joiner.JoinBy(ctx, n1, good); err == nil {
		t.Fatalf("joined without an identity on disk: %s", out)
	}
	if err := os.RemoveAll(block); err != nil {
		t.Fatal(err)
	}
	if out, err := joiner.JoinBy(ctx, n1, good); err != nil {
		t.Errorf("the join was not finished: %s", out)
	}
	late := lab.Add(c, "n3", strings.TrimSuffix(n1.IP, ".1")+".3")
	if err := late.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := late.JoinBy(ctx, n1, good); err == nil || !strings.Contains(out, "used up") {
		t.Errorf("used up: %v, %s", err, out)
	}
	// Through a follower, with a token that another node has made.
	fresh, err := joiner.Ctl(ctx, "token", "rotate", "-q")
	if err != nil {
		t.Fatal(fresh)
	}
	if out, err := late.JoinBy(ctx, joiner, fresh); err != nil {
		t.Error(out)
	}
}

func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

// TestRemovedNode is shut out at once though it is alive, says so and ends; the others go
// on without a failed request, and it may join anew.
func TestRemovedNode(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 3))
	n1, gone := c.Nodes[0], c.Nodes[2]
	if _, err := n1.Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	if out, err := n1.Ctl(ctx, "transfer", n1.ID); err != nil && !strings.Contains(out, "knows no new leader") {
		t.Log(out)
	}
	if out, err := n1.Ctl(ctx, "remove", gone.ID); err == nil || !strings.Contains(out, "--force") {
		t.Errorf("a living node was removed: %v, %s", err, out)
	}
	if out, err := n1.Ctl(ctx, "remove", gone.ID, "--force"); err != nil {
		t.Fatal(out)
	}
	err := lab.Until(within(t, ctx, 30*time.Second), 50*time.Millisecond, func() error {
		if gone.Running() {
			return fmt.Errorf("the removed node goes on: %s", gone.Log(3))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if log := gone.Log(20); !strings.Contains(log, "set aside") {
		t.Errorf("it does not say what it did:\n%s", log)
	}
	err = lab.Until(within(t, ctx, 60*time.Second), 50*time.Millisecond, func() error {
		rows, err := n1.Healthy(ctx, 3)
		for _, r := range rows {
			if r.Node == gone.ID {
				return fmt.Errorf("a row is still on it: %+v", r)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The gossip key that it knew is exchanged, without anybody asking.
	err = lab.Until(within(t, ctx, 60*time.Second), 100*time.Millisecond, func() error {
		out, err := n1.Ctl(ctx, "events")
		if err == nil && !strings.Contains(out, "the old gossip key is gone") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := gone.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := gone.Join(ctx, n1); err != nil {
		t.Errorf("it does not join anew: %s", out)
	}
}

// TestCARotatesUnderLoad: no request fails, no vote is lost, every node shows a
// certificate of the new CA, a bundle of the old one is refused and says why, and nodes
// still join.
func TestCARotatesUnderLoad(t *testing.T) {
	c, ctx := cluster(t, 3, spec(3, 3), "--profile=cloud") // as in TestSiege
	n1 := c.Nodes[0]
	if _, err := n1.Healthy(within(t, ctx, 60*time.Second), 3); err != nil {
		t.Fatal(err)
	}
	p := granted(t, ctx, n1, "bob", "read")
	before := term(t, ctx, n1)
	load, stop := context.WithCancel(ctx)
	var l lab.Load
	ended := make(chan struct{})
	go func() { l.Run(load, c.Nodes[1], "/api/v1/categories", 2*time.Millisecond); close(ended) }()
	if out, err := n1.Ctl(ctx, "ca", "rotate"); err != nil || !strings.Contains(out, "orchctl grant bob --role read") {
		t.Fatal(err, out)
	}
	if out, err := n1.Ctl(ctx, "gossip", "rotate"); err != nil {
		t.Fatal(out)
	}
	issuers := map[string]bool{}
	err := lab.Until(within(t, ctx, 60*time.Second), 100*time.Millisecond, func() error {
		clear(issuers)
		for _, n := range c.Nodes {
			out, err := n.Ctl(ctx, "trust", "-o", "json")
			if err != nil {
				return err
			}
			var x struct {
				Node        struct{ CA string }
				Authorities []struct{ Digest string }
				Gossip      []struct{ ID string }
			}
			if err := json.Unmarshal([]byte(out), &x); err != nil {
				return err
			}
			if len(x.Authorities) != 1 || len(x.Gossip) != 1 || x.Node.CA != x.Authorities[0].Digest {
				return fmt.Errorf("%s is not there yet: %s", n.ID, out)
			}
			issuers[x.Node.CA] = true
		}
		return nil
	})
	stop()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	if len(issuers) != 1 {
		t.Errorf("%d CAs", len(issuers))
	}
	if failed := l.Failures(); len(failed) > 0 || l.OK.Load() < 100 {
		t.Errorf("%d requests, %d failed: %+v", l.OK.Load(), len(failed), failed)
	}
	if after := term(t, ctx, n1); after != before {
		t.Errorf("the leader was lost: term %d, then %d", before, after)
	}
	if out, err := p.ctl(ctx, "ps"); err == nil || !strings.Contains(out, "orchctl grant bob --role read") {
		t.Errorf("a bundle of the old CA: %v, %s", err, out)
	}
	p = granted(t, ctx, n1, "bob", "read")
	if out, err := p.ctl(ctx, "ps"); err != nil {
		t.Error(out)
	}
	late := lab.Add(c, "n4", strings.TrimSuffix(n1.IP, ".1")+".4")
	if err := late.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := late.Join(ctx, c.Nodes[2]); err != nil {
		t.Error(out)
	}
}

func term(t *testing.T, ctx context.Context, n *lab.Node) uint64 {
	t.Helper()
	s, err := n.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s.Term
}

// TestSecretsStaySecret: a secret value reaches its container and nothing else: no file of
// a node, no log, no answer, no snapshot, no process's arguments.
func TestSecretsStaySecret(t *testing.T) {
	c, ctx := cluster(t, 3, withSecret(spec(2, 2), secret))
	n1 := c.Nodes[0]
	rows, err := n1.Healthy(within(t, ctx, 60*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	given(t, ctx, rows[0], "ACTS_X="+secret)
	file := filepath.Join(c.Dir, "kept.snap")
	if out, err := n1.Ctl(ctx, "snapshot", "save", file); err != nil {
		t.Fatal(out)
	}
	token, err := n1.Ctl(ctx, "token", "show", "-q")
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{"the value": []byte(secret), "the token": []byte(strings.TrimSpace(token))}
	for _, name := range []string{"cluster.key", "gossip.keys"} {
		b, err := os.ReadFile(filepath.Join(n1.Dir, "data", name))
		if err != nil {
			t.Fatal(err)
		}
		secrets[name] = bytes.TrimSpace(b)
	}
	search := func(where string, b []byte) {
		for name, s := range secrets {
			if bytes.Contains(b, s) {
				t.Errorf("%s is in %s", name, where)
			}
		}
	}
	read := 0
	err = filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || slices.Contains([]string{"cluster.key", "gossip.keys", "acts.yaml"}, d.Name()) {
			return err
		}
		info, err := d.Info()
		if err == nil && strings.Contains(path, "/data/") && !strings.Contains(path, "/volumes/") && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its node has renamed it since, as it does with what is written as a whole
		}
		if err == nil {
			read++
			search(path, b)
		}
		return err
	})
	if err != nil || read < 10 {
		t.Errorf("%d files: %v", read, err)
	}
	for _, args := range [][]string{
		{"status", "-o", "json"}, {"events", "-o", "json"}, {"ps", "-o", "json"}, {"trust", "-o", "json"}, {"history", "acts", "-o", "json"},
		{"snapshot", "inspect", file, "-o", "json"}, {"apply", "--dry-run", "-f", filepath.Join(c.Dir, "acts.yaml"), "-o", "json"},
	} {
		out, err := n1.Ctl(ctx, args...)
		if err != nil {
			t.Errorf("%v: %s", args, out)
		}
		search("orchctl "+strings.Join(args, " "), []byte(out))
	}
	for _, n := range c.Nodes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.Pid()))
		if err != nil {
			t.Error(err)
		}
		search("the arguments of "+n.ID, b)
	}
	// The same value again is no change, another one is; neither is shown.
	same, err := n1.Ctl(ctx, "apply", "--yes", "-f", filepath.Join(c.Dir, "acts.yaml"))
	if err != nil || !strings.Contains(same, "othing") {
		t.Errorf("the same again: %v, %s", err, same)
	}
	path, err := c.Spec("other", withSecret(spec(2, 2), secret+"-2"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := n1.Ctl(ctx, "apply", "--dry-run", "-f", path); err != nil || !strings.Contains(out, "secret_env.ACTS_X") || strings.Contains(out, secret) || strings.Contains(out, "sealed:") {
		t.Errorf("another value: %v, %s", err, out)
	}
}
