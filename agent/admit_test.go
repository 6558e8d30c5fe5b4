package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// TestWhoMayJoin: what is wrong is named, with what to do; only the right token gets as
// far as the leader.
func TestWhoMayJoin(t *testing.T) {
	r := newRealm(t)
	n := &Node{cfg: Config{NodeID: "n1", Version: "v1.0", APIAddr: "10.0.0.1:7480"}, store: r.store, clock: newClock(time.Now()), member: identity{ClusterID: r.store.View().ClusterID}, log: slog.New(slog.DiscardHandler)}
	n.clock.observe(time.Now().UnixMilli(), true, time.Now())
	n.trust = r.node("n1")
	held, err := n.JoinToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, err := pki.ParseToken(held.Token)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.Request(key)
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, key)
	good := func() api.AdmitRequest {
		return api.AdmitRequest{Node: fsm.Node{ID: "n2", Version: "v1.0"}, Secret: token.Secret[:], Request: request, Now: time.Now().UnixMilli(), Protocol: Protocol}
	}
	if _, err := n.mayJoin(good(), digest); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*api.AdmitRequest)
		key  string
		want string
	}{
		"a forged token":        {func(q *api.AdmitRequest) { q.Secret = bytes.Repeat([]byte{1}, 16) }, digest, "orchctl token show"},
		"no token":              {func(q *api.AdmitRequest) { q.Secret = nil }, digest, "orchctl token show"},
		"the key of another":    {func(*api.AdmitRequest) {}, "0000", "not that of the connection"},
		"no request":            {func(q *api.AdmitRequest) { q.Request = nil }, digest, "signing request"},
		"a clock behind":        {func(q *api.AdmitRequest) { q.Now -= 6 * 60_000 }, digest, "timedatectl"},
		"a clock ahead":         {func(q *api.AdmitRequest) { q.Now += 6 * 60_000 }, digest, "timedatectl"},
		"a release too far":     {func(q *api.AdmitRequest) { q.Protocol += 2; q.Node.Version = "v9" }, digest, "version v9"},
		"a name that is none":   {func(q *api.AdmitRequest) { q.Node.ID = "N 2" }, digest, "--node-id"},
		"a name that is in use": {func(q *api.AdmitRequest) { q.Node.ID = "n1" }, digest, "another --node-id"},
	} {
		q := good()
		c.edit(&q)
		if _, err := n.mayJoin(q, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	n.clock = newClock(time.Now().Add(-3 * time.Hour)) // stamps stand still while a machine sleeps
	n.clock.observe(time.Now().Add(-3*time.Hour).UnixMilli(), true, time.Now())
	if _, err := n.mayJoin(good(), digest); err != nil {
		t.Errorf("after a sleep of all machines: %v", err)
	}
	n.member = identity{}
	if _, err := n.mayJoin(good(), digest); !errors.Is(err, api.ErrNotMember) {
		t.Errorf("of a node in no cluster: %v", err)
	}
	if strings.Contains(fmt.Sprint(n.mayJoin(good(), digest)), held.Token[10:40]) {
		t.Error("an error shows the token")
	}
}

// TestRattling at the door is logged once a minute, and who guesses has to wait: what
// comes then is not looked at, be it right or wrong.
func TestRattling(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1e9, 0)
	r := newRefusals(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	wrong := fmt.Errorf("%w: the token", fsm.ErrRefused)
	try := func(from string, how error) time.Duration {
		ended, wait, _ := r.tries(from)
		if ended != nil {
			ended(how)
		}
		return wait
	}
	for i := range 10_000 {
		if wait := try("192.0.2.7:1234", wrong); (wait > 0) != (i >= maxFailedJoins) {
			t.Fatalf("attempt %d: %v", i, wait)
		}
	}
	now = now.Add(20 * time.Second)
	if wait := try("192.0.2.7:1", nil); wait != 40*time.Second {
		t.Errorf("the right token of that address waits %s", wait)
	}
	if wait := try("192.0.2.8:1234", nil); wait != 0 {
		t.Errorf("another address waits %s", wait)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	now = now.Add(40 * time.Second)
	if wait := try("192.0.2.7:1234", wrong); wait != 0 {
		t.Errorf("it has waited as long as it was told, and waits %s", wait)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "count=10001") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	for range 10 * maxFailedJoins { // what is nobody's fault, and what goes well
		for _, how := range []error{nil, api.ErrNoLeader, api.ErrUnknown, api.ErrUnreachable} {
			if wait := try("192.0.2.9:1", how); wait != 0 {
				t.Fatalf("%v costs %s", how, wait)
			}
		}
	}
	for i := range maxFailedJoins { // one IPv6 network is one
		try(fmt.Sprintf("[2001:db8::%d]:1", i), wrong)
	}
	if try("[2001:db8::ffff]:1", wrong) == 0 || try("[2001:db8:0:1::1]:1", wrong) != 0 || try("[::ffff:192.0.2.8]:1", nil) != 0 {
		t.Error("networks are told apart wrongly")
	}
	for i := range 3 * maxAddresses { // memory is bounded, whoever comes, and nobody is kept out
		if wait := try(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), wrong); wait != 0 {
			t.Fatalf("address %d waits %s", i, wait)
		}
	}
	if len(r.joins) > maxAddresses || len(r.order) != len(r.joins) {
		t.Errorf("%d addresses are remembered", len(r.joins))
	}
}

// TestJoinsUnderWay are bounded by themselves, so that many at once are no way around the
// limit, and a rack that starts together is not taken for one who guesses.
func TestJoinsUnderWay(t *testing.T) {
	n := &Node{refusals: newRefusals(slog.New(slog.DiscardHandler), time.Now)}
	var under []func(error)
	for range maxJoinsAtOnce {
		ended, err := n.MayTry("192.0.2.7:1")
		if err != nil {
			t.Fatal(err)
		}
		under = append(under, ended)
	}
	if _, err := n.MayTry("192.0.2.7:2"); !errors.Is(err, api.ErrTooMany) || !strings.Contains(err.Error(), "under way: wait 1s") {
		t.Errorf("one more at once: %v", err)
	}
	for i, ended := range under {
		ended([]error{nil, context.Canceled, api.ErrNoLeader}[i%3])
	}
	again, err := n.MayTry("192.0.2.7:3")
	if err != nil {
		t.Fatalf("after those: %v", err)
	}
	again(nil)
	for range maxFailedJoins {
		ended, err := n.MayTry("192.0.2.7:4")
		if err != nil {
			t.Fatal(err)
		}
		ended(fsm.ErrRefused)
	}
	if _, err := n.MayTry("192.0.2.7:5"); !errors.Is(err, api.ErrTooMany) || !strings.Contains(err.Error(), "have failed within") {
		t.Errorf("after as many that failed: %v", err)
	}
}

// TestSecretValues are sealed for one name of one service, equal ones alike.
func TestSecretValues(t *testing.T) {
	r := newRealm(t)
	n := &Node{trust: r.node("n1")}
	spec := fsm.Spec{Name: "acts", Image: "acts:1", SecretEnv: map[string]string{"DSN": "postgres://secret", "EMPTY": ""}}
	one, err := n.Seal(spec)
	if err != nil {
		t.Fatal(err)
	}
	two, err := n.Seal(spec)
	if err != nil || two.SecretEnv["DSN"] != one.SecretEnv["DSN"] {
		t.Errorf("the same value is another change: %v", err)
	}
	if strings.Contains(fmt.Sprint(one), "postgres") || spec.SecretEnv["DSN"] != "postgres://secret" {
		t.Errorf("%+v", one)
	}
	if again, err := n.Seal(one); err != nil || again.SecretEnv["DSN"] != one.SecretEnv["DSN"] {
		t.Errorf("what is sealed: %v", err)
	}
	got, err := n.reveal(one)
	if err != nil || got["DSN"] != "postgres://secret" || got["EMPTY"] != "" || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	other := one
	other.Name = "users"
	if _, err := n.Seal(other); err == nil || !strings.Contains(err.Error(), "secret_env.") {
		t.Errorf("for another service: %v", err)
	}
	stranger := &Node{trust: newRealm(t).node("n1")}
	if _, err := stranger.reveal(one); err == nil {
		t.Error("another cluster opens it")
	}
	if _, err := n.reveal(spec); err == nil || strings.Contains(err.Error(), "postgres") {
		t.Errorf("a value that is not sealed: %v", err)
	}
}

// TestKeysOthersCanRead are refused, and a key that is none is named and left alone.
func TestKeysOthersCanRead(t *testing.T) {
	for _, name := range append([]string{identityFile}, secretFiles...) {
		f := open(t, filepath.Join(t.TempDir(), "d"))
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := f.checkSecrets(); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.checkSecrets(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tr := newTrust("n1", f, fsm.NewStore().View, slog.New(slog.DiscardHandler))
		if err := tr.load(identity{ClusterID: "c", NodeID: "n1"}); !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "orchctl remove n1") {
			t.Errorf("%s alone: %v", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "x" {
			t.Errorf("%s was touched: %q, %v", name, b, err)
		}
		f.Close()
	}
}

// TestRestart reads the keys that were written, of this node and no other.
func TestRestart(t *testing.T) {
	r := newRealm(t)
	n := r.node("n1")
	v := r.store.View()
	if err := errors.Join(n.folder.saveCredentials(n.live.Get()), n.folder.saveClusterKey(r.key), n.folder.saveGossipKeys(n.gossipKeys())); err != nil {
		t.Fatal(err)
	}
	again := newTrust("n1", n.folder, r.store.View, n.log)
	if err := again.load(identity{ClusterID: v.ClusterID, NodeID: "n1"}); err != nil {
		t.Fatal(err)
	}
	if again.key() != n.key() || shake(again, n) != nil {
		t.Error("it is another one after a restart")
	}
	for name, id := range map[string]identity{"another node's": {ClusterID: v.ClusterID, NodeID: "n2"}, "another cluster's": {ClusterID: newClusterID(), NodeID: "n1"}} {
		if err := newTrust(id.NodeID, n.folder, r.store.View, n.log).load(id); !errors.Is(err, ErrFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewKeyOfAJoinThatWasCutOff is the one it began with.
func TestNewKeyOfAJoinThatWasCutOff(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "d"))
	defer f.Close()
	one, err := f.nodeKey()
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.nodeKey()
	if err != nil || !one.Equal(two) {
		t.Errorf("another key: %v", err)
	}
	if info, err := os.Stat(filepath.Join(f.dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, keyFile), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.nodeKey(); !errors.Is(err, ErrFolder) || strings.Contains(err.Error(), "garbage") {
		t.Errorf("%v", err)
	}
}

// TestUntilAllIsBounded: what is handed out is worth a second's wait, not more.
func TestUntilAllIsBounded(t *testing.T) {
	r := newRealm(t)
	n := &Node{store: r.store}
	began := time.Now()
	n.untilAll(context.Background(), func(*fsm.State) bool { return false })
	if took := time.Since(began); took > 10*knownWithin {
		t.Errorf("%s", took)
	}
}
