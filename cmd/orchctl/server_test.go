package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orch/agent/api"
	"orch/agent/backup"
	"orch/agent/pki"
	"orch/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leader is a node with a real table and no Raft.
type leader struct {
	*fsm.Store
	api.Recoverer
	api.Truster
	mu     sync.Mutex
	leads  bool
	name   string
	token  string // that was joined with
	key    []byte // that secrets are sealed with
	status api.Status
}

func (l *leader) ProposeHere(_ context.Context, c fsm.Command) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leads {
		return nil, api.ErrNoLeader
	}
	index := l.View().Applied + 1
	data, err := fsm.Encode(int64(index)*1000, c)
	if err != nil {
		return nil, err
	}
	result := l.Apply(index, 1, data)
	if err, refused := result.(error); refused {
		return nil, err
	}
	return result, nil
}

func (l *leader) Propose(ctx context.Context, c fsm.Command) (any, error) {
	return l.ProposeHere(ctx, c)
}

func (l *leader) Init(context.Context, string) (api.Admission, error) {
	return api.Admission{ClusterID: "c1", Nodes: []fsm.Node{{ID: "n1", APIAddr: "127.0.0.1:7480"}},
		Token: api.JoinToken{Token: "orch1-x", Addr: "127.0.0.1:7480", Uses: 16, Expires: time.Unix(2e9, 0)}}, nil
}

func (l *leader) Join(_ context.Context, _, token string) (api.Admission, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = token
	return api.Admission{ClusterID: "c1", Nodes: make([]fsm.Node, 2)}, nil
}
func (l *leader) Leave(context.Context, string) error { return api.ErrNotMember }

func (l *leader) RemoveNode(ctx context.Context, id string, _ bool, _ string) error {
	_, err := l.Propose(ctx, fsm.RemoveNode{ID: id})
	return err
}

func (l *leader) Unconfirmed(context.Context) []string { return []string{"n7"} }

func (l *leader) ImageID(context.Context, string) string { return "" }

func (l *leader) DrainNode(ctx context.Context, id string, within time.Duration, by string) error {
	_, err := l.Propose(ctx, fsm.DrainNode{ID: id, Deadline: l.View().Stamp + within.Milliseconds(), By: by})
	return err
}

func (l *leader) Archive(_ context.Context, stale bool) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leads && !stale {
		return nil, api.ErrNoLeader
	}
	var b bytes.Buffer
	_, err := backup.Write(&b, l.View(), "n1", "v9", time.Unix(1e9, 0))
	return b.Bytes(), err
}

func (l *leader) Transfer(_ context.Context, to, _ string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name = to
	return nil
}

func (l *leader) Status(context.Context) api.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, v := l.status, l.View()
	s.ClusterID, s.Leader, s.CommitIndex, s.Services = v.ClusterID, l.name, v.Applied, api.Services(v, v.Stamp)
	return s
}
func (l *leader) Report() api.Report { return api.Report{Node: "n1", Version: "v9"} }
func (l *leader) Ready() error       { return nil }

func (l *leader) Logs(_ context.Context, q api.LogQuery, w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s/1 | tail %d\n", q.Service, q.Tail)
	return err
}

// Seal is what a node of the cluster with that key does.
func (l *leader) Seal(s fsm.Spec) (fsm.Spec, error) {
	out := maps.Clone(s.SecretEnv)
	for k, v := range out {
		var err error
		if pki.SealedEnv(v) {
			_, err = pki.OpenEnv(l.key, s.Name, k, v)
		} else {
			out[k], err = pki.SealEnv(l.key, s.Name, k, v)
		}
		if err != nil {
			return s, err
		}
	}
	s.SecretEnv = out
	return s, nil
}

func (l *leader) TakeVote(context.Context, string) error { return api.ErrNoLeader }
func (l *leader) JoinToken(context.Context) (api.JoinToken, error) {
	return api.JoinToken{Token: "orch1-x", Addr: "127.0.0.1:7480", Uses: 16, Expires: time.Unix(2e9, 0)}, nil
}
func (l *leader) Probe(context.Context, api.RowRef) error        { return nil }
func (l *leader) LeaderView(context.Context) (*fsm.State, error) { return l.View(), nil }
func (l *leader) Suspect(api.RowRef)                             {}

// served runs the API of a leader on a socket below a new current folder, where
// orchctl finds it.
func served(t *testing.T) *leader {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("ORCH_ADDR", "run/node1/orchd.sock")
	l := &leader{Store: fsm.NewStore(), leads: true, name: "n1", status: api.Status{
		Term: 3, Quorum: true, TurnMode: "leased",
		Nodes:    []api.NodeInfo{{ID: "n1", Addr: "10.0.0.1", ProxyAddr: "10.0.0.1:80", Role: "leader", Status: fsm.NodeAlive, AppliedIndex: 4, Version: "v9"}},
		Pending:  []api.Pending{{What: "relaunch acts/1", Reason: "exit code 1", DueInMS: 2500}},
		Impaired: []api.Impairment{{What: "engine", Reason: "no answer", Meaning: "none is started here"}},
	}}
	for _, c := range []fsm.Command{
		fsm.InitCluster{ClusterID: "c1"},
		fsm.PutNode{Node: fsm.Node{ID: "n1", Addr: "10.0.0.1", RaftAddr: "r", APIAddr: "a"}},
	} {
		if _, err := l.ProposeHere(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("run/node1", 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", "run/node1/orchd.sock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- api.NewServer(l, slog.New(slog.DiscardHandler), api.WithIdentify(anybody)).Run(ctx, socket)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// anybody who reaches the socket is an admin, as on a node.
func anybody(*http.Request) api.Identity { return api.Identity{Name: "operator", Role: fsm.RoleAdmin} }

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := ctl(t, args...)
	if err != nil {
		t.Fatalf("orchctl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TestEveryCommand of a day, over a real socket.
func TestEveryCommand(t *testing.T) {
	l := served(t)
	if err := os.WriteFile("acts.yaml", []byte("name: acts\nimage: acts:1\n---\nname: web\nimage: web:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"init", []string{"Cluster c1 is made", "orchctl join 127.0.0.1:7480"}},
		{"join 127.0.0.1:7480", []string{"Joined cluster c1, 2 nodes", "orchctl nodes"}},
		{"ps", []string{"CONTAINER", "no containers", "orchctl apply -f"}},
		{"apply -f acts.yaml", []string{"service acts applied", "service web applied", "orchctl ps"}},
		{"scale acts 5", []string{"service acts: 5"}},
		{"scale acts auto", []string{"service acts: auto"}},
		{"nodes", []string{"NODE   ADDR       PROXY         ROLE     STATUS   APPLIED   VERSION", "n1     10.0.0.1   10.0.0.1:80   leader   alive    4         v9"}},
		{"status", []string{"Cluster   c1", "n1 (term 3, commit index", "IMPAIRED", "engine: no answer", "none is started here", "1-10", "relaunch acts/1   2.5s   exit code 1"}},
		{"events", []string{"cluster-made", "service-added    acts", "scale-by-hand    acts              5 containers"}},
		{"events --since 4 -o json", []string{`"kind":"scale-by-hand"`}},
		{"logs acts --tail 7", []string{"acts/1 | tail 7"}},
		{"transfer n2", []string{"the leader is now n2"}},
		{"delete web", []string{"service web is draining"}},
		{"version", []string{"orchctl ", "orchd v9 (node n1)"}},
		{"version -o json", []string{`"orchd": "v9"`}},
		{"completion bash", []string{"__start_orchctl"}},
	} {
		out := must(t, strings.Fields(c.args)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("orchctl %s: no %q in\n%s", c.args, want, out)
			}
		}
	}
	v := l.View()
	if _, ok := v.Service("web"); ok || len(v.Services) != 1 || v.Services[0].Manual != 0 || v.Services[0].Spec.Scale.Max != 10 {
		t.Errorf("services %+v", v.Services)
	}
	var s api.Status
	if err := json.Unmarshal([]byte(must(t, "status", "-o", "json")), &s); err != nil || s.Leader != "n2" || len(s.Pending) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRefusalsReachThePerson with what to do next.
func TestRefusalsReachThePerson(t *testing.T) {
	served(t)
	if err := os.WriteFile("wrong.yaml", []byte("name: acts\nimgae: x\nscale: {min: none}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"scale acts 3", []string{`"acts"`, "orchctl apply -f"}},
		{"delete acts", []string{`"acts"`, "orchctl status"}},
		{"logs acts", []string{`"acts"`, "orchctl status"}},
		{"leave", []string{"in no cluster"}},
		{"apply -f wrong.yaml", []string{`wrong.yaml:2: imgae: unknown key; did you mean "image"?`, `wrong.yaml:3: scale.min: "none" is wrong; a whole number`}},
		{"--addr localhost ps", []string{"HOST:PORT", "127.0.0.1:7480"}},
	} {
		_, err := ctl(t, strings.Fields(c.args)...)
		if err == nil {
			t.Errorf("orchctl %s passed", c.args)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("orchctl %s: no %q in %q", c.args, want, err)
			}
		}
	}
}

// TestWithoutALeader a command that needs one ends within 5 s, and says so.
func TestWithoutALeader(t *testing.T) {
	l := served(t)
	l.mu.Lock()
	l.leads, l.name = false, ""
	l.mu.Unlock()
	began := time.Now()
	_, err := ctl(t, "scale", "acts", "3")
	if took := time.Since(began); err == nil || !strings.HasPrefix(err.Error(), "no leader was found") || !strings.Contains(err.Error(), "nothing was changed") || took > 5*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	if out := must(t, "status"); !strings.Contains(out, "Leader    none: requests are served") {
		t.Errorf("status:\n%s", out)
	}
}

// TestEveryCommandHasAnExample in its help.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, name := range []string{"init", "join", "ps", "nodes", "status", "apply", "history", "rollback", "restart", "drain", "undrain", "delete", "scale", "events", "logs", "transfer", "leave", "remove", "recover", "version"} {
		if out := must(t, name, "--help"); !strings.Contains(out, "Examples:\n  orchctl "+name) {
			t.Errorf("%s --help:\n%s", name, out)
		}
	}
}

// TestFollowedEvents end with the person's ^C, without an error of theirs.
func TestFollowedEvents(t *testing.T) {
	l := served(t)
	ctx, interrupt := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"events", "-f", "--since", "2"}, w, io.Discard) }()
	if _, err := l.ProposeHere(ctx, fsm.Note{ID: "x", What: "noted", Reason: "later"}); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "noted") || !strings.Contains(string(line[:n]), "later") {
		t.Errorf("%q, %v", line[:n], err)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
