package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orch/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one is a node with a real store and no Raft: it leads, or knows who does.
type one struct {
	*fsm.Store
	Recoverer // by the end-to-end tests, on real disks
	mu        sync.Mutex
	index     uint64
	leads     bool
	leader    *Client
	heard     []RowRef
	image     string // what every image means
	shut      bool   // too many joins have failed
	tried     []error
}

// whole has a server take everybody for all that there is: on a socket of a test.
var whole = WithIdentify(func(*http.Request) Identity {
	return Identity{Name: "root on n1", Role: fsm.RoleAdmin, Node: "n1"}
})

func (n *one) ImageID(context.Context, string) string { return n.image }

func (n *one) ProposeHere(_ context.Context, c fsm.Command) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.leads {
		return nil, ErrNoLeader
	}
	n.index++
	data, err := fsm.Encode(int64(n.index)*1000, c)
	if err != nil {
		return nil, err
	}
	result := n.Apply(n.index, 1, data)
	if err, ok := result.(error); ok {
		return nil, err
	}
	return result, nil
}

func (n *one) Propose(ctx context.Context, c fsm.Command) (any, error) {
	if n.leader != nil {
		return n.leader.Propose(ctx, c)
	}
	return n.ProposeHere(ctx, c)
}

func (n *one) Init(context.Context, string) (Admission, error) {
	return Admission{ClusterID: "c1", Nodes: n.View().Nodes}, nil
}
func (n *one) Join(_ context.Context, addr, _ string) (Admission, error) {
	return Admission{}, fmt.Errorf("%w: address %q", ErrBad, addr)
}
func (n *one) Leave(context.Context, string) error { return nil }
func (n *one) RemoveNode(ctx context.Context, id string, _ bool, by string) error {
	_, err := n.Propose(ctx, fsm.RemoveNode{ID: id, By: by})
	return err
}
func (n *one) DrainNode(ctx context.Context, id string, within time.Duration, by string) error {
	_, err := n.Propose(ctx, fsm.DrainNode{ID: id, Deadline: n.View().Stamp + within.Milliseconds(), By: by})
	return err
}
func (n *one) Archive(_ context.Context, stale bool) ([]byte, error) {
	if !stale {
		return nil, ErrNoLeader
	}
	return []byte("bytes"), nil
}
func (n *one) Transfer(context.Context, string, string) error { return ErrNoLeader }
func (n *one) Status(context.Context) Status {
	v := n.View()
	return Status{
		ClusterID: v.ClusterID, Leader: "n1", Term: 1, CommitIndex: v.Applied, Quorum: true, TurnMode: "leased", Services: Services(v, v.Stamp),
		Nodes:    []NodeInfo{{ID: "n1", Addr: "10.0.0.1", ProxyAddr: "10.0.0.1:80", Role: "leader", Status: fsm.NodeAlive, AppliedIndex: v.Applied, Version: "v1"}},
		Pending:  []Pending{{What: "relaunch acts/1", Reason: "exit code 1", DueInMS: 500}},
		Impaired: []Impairment{},
	}
}
func (n *one) Report() Report { return Report{Node: "n1", Version: "v1", InFlight: []Load{}} }
func (n *one) Ready() error   { return errors.New("catching up") }
func (n *one) Logs(_ context.Context, q LogQuery, w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s/%d | hello\n", q.Service, q.Number)
	return err
}
func (n *one) Probe(context.Context, RowRef) error { return errors.New("health answered 500") }
func (n *one) Suspect(r RowRef) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, r)
}

// serve runs a server of n and returns a client of its socket.
func serve(t *testing.T, n Node) *Client {
	t.Helper()

	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(n, slog.New(slog.DiscardHandler), whole).Run(ctx, l) }()
	c := NewClient(path, nil)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

// leading is a cluster of one node with one healthy row of acts.
func leading(t *testing.T) (*one, *Client) {
	t.Helper()
	n := &one{Store: fsm.NewStore(), leads: true}
	for _, c := range []fsm.Command{
		fsm.InitCluster{ClusterID: "c1"},
		fsm.PutNode{Node: fsm.Node{ID: "n1", Addr: "10.0.0.1", RaftAddr: "r", APIAddr: "a"}},
		fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()},
		fsm.Place{Service: "acts", Number: 1, Node: "n1", Port: 8000},
		fsm.Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: fsm.Running},
	} {
		if _, err := n.ProposeHere(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	row, _ := n.View().Container("acts", 1)
	if _, err := n.ProposeHere(t.Context(), fsm.SetStatus{Row: row.Row(), Status: true, Reason: "healthy"}); err != nil {
		t.Fatal(err)
	}
	return n, serve(t, n)
}

// TestKeysThatScriptsRelyOn: their names and types are a promise.
func TestKeysThatScriptsRelyOn(t *testing.T) {
	_, c := leading(t)
	for path, want := range map[string]string{
		"/v1/ps":    `[{"service":"acts","number":1,"node":"n1","addr":"10.0.0.1:8000","port":8000,"status":true,"turn":1,"generation":1,"phase":"running","image":"acts:1","reason":"healthy"}]`,
		"/v1/nodes": `[{"id":"n1","addr":"10.0.0.1","proxy_addr":"10.0.0.1:80","role":"leader","status":"alive","applied_index":6,"version":"v1"}]`,
		"/v1/status": `{"cluster_id":"c1","leader":"n1","term":1,"commit_index":6,"quorum":true,"turn_mode":"leased",` +
			`"services":[{"name":"acts","desired":0,"healthy":1,"min":1,"max":10,"turn":0,"requests_in_window":0,"scale_reason":""}],` +
			`"nodes":[{"id":"n1","addr":"10.0.0.1","proxy_addr":"10.0.0.1:80","role":"leader","status":"alive","applied_index":6,"version":"v1"}],` +
			`"pending":[{"what":"relaunch acts/1","reason":"exit code 1","due_in_ms":500}],"impaired":[]}`,
		"/v1/events?since=5": `{"index":6,"at":"1970-01-01T00:00:06Z","kind":"healthy","service":"acts","number":1,"node":"n1","reason":"healthy"}`,
	} {
		var b bytes.Buffer
		if err := c.stream(t.Context(), path, &b); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(b.String()); got != want {
			t.Errorf("%s\n got %s\nwant %s", path, got, want)
		}
	}
}

// TestForwardingKeepsMeaning: through a follower, in one hop, a value is a value and a
// refusal is found by its sentinel.
func TestForwardingKeepsMeaning(t *testing.T) {
	leader, toLeader := leading(t)
	follower := &one{Store: leader.Store, leader: toLeader}
	c := serve(t, follower)
	for i := range 3 {
		turn, err := toLeader.Propose(t.Context(), fsm.TakeTurns{Service: "acts", Node: "n1", Epoch: 1 << 62, Seq: uint64(i + 1), Count: 7})
		if err != nil || turn != uint64(7*i) {
			t.Fatalf("turn %v, %v; want %d", turn, err, 7*i)
		}
	}
	if err := c.Scale(t.Context(), "acts", 3); err != nil || leader.View().Services[0].Manual != 3 {
		t.Errorf("scale: %v", err)
	}
	for name, x := range map[string]struct {
		err  error
		want error
	}{
		"too many":           {c.Scale(t.Context(), "acts", 99), fsm.ErrOutOfRange},
		"unknown service":    {c.Scale(t.Context(), "none", 1), fsm.ErrNoSuchService},
		"unknown to delete":  {c.Delete(t.Context(), "none"), fsm.ErrNoSuchService},
		"a wrong spec":       {c.Apply(t.Context(), fsm.Spec{Name: "A"}, ApplyOptions{}), ErrBad},
		"a wrong address":    {func() error { _, err := c.Join(t.Context(), "x", "t"); return err }(), ErrBad},
		"logs of no service": {c.Logs(t.Context(), LogQuery{Service: "none"}, io.Discard), fsm.ErrNoSuchService},
	} {
		if !errors.Is(x.err, x.want) {
			t.Errorf("%s: %v, want %v", name, x.err, x.want)
		}
	}
	if healthy, reason, err := c.Probe(t.Context(), RowRef{Service: "acts", Number: 1}); healthy || reason != "health answered 500" || err != nil {
		t.Errorf("probe: %v %q %v", healthy, reason, err)
	}
	if err := c.Suspect(t.Context(), RowRef{Service: "acts", Number: 1, Generation: 1}); err != nil || len(follower.heard) != 1 {
		t.Errorf("suspect: %v %v", err, follower.heard)
	}
}

// TestNoLeader is said within 5 s, with what to do.
func TestNoLeader(t *testing.T) {
	c := serve(t, &one{Store: fsm.NewStore()})
	began := time.Now()
	err := c.Scale(t.Context(), "acts", 3)
	if took := time.Since(began); !errors.Is(err, ErrNoLeader) || took > 5*time.Second || !strings.Contains(err.Error(), "orchctl status") {
		t.Errorf("after %s: %v", took, err)
	}
}

func TestEventsAreFollowed(t *testing.T) {
	n, c := leading(t)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Events(ctx, true, 6, w); w.Close() }()
	go n.ProposeHere(ctx, fsm.Note{ID: "x", What: "note", Reason: "later"})
	var e Event
	if err := json.NewDecoder(r).Decode(&e); err != nil || e.Kind != "note" || e.Reason != "later" {
		t.Errorf("%+v, %v", e, err)
	}
	cancel()
	r.Close()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestBadRequests are refused in the one shape, and nothing is lost.
func TestBadRequests(t *testing.T) {
	n, _ := leading(t)
	h := NewServer(n, slog.New(slog.DiscardHandler), whole).routes()
	before := n.View().Applied
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/services", "{", 400},
		{"POST", "/v1/services", `{"name":"x","image":"y","nme":1}`, 400},
		{"POST", "/v1/services/acts/scale", `{"count":"many"}`, 400},
		{"POST", "/v1/propose", "garbage", 400},
		{"POST", "/v1/propose", strings.Repeat("x", fsm.MaxCommand+1), 413},
		{"POST", "/v1/services", strings.Repeat(" ", maxBody+1), 413},
		{"POST", "/v1/services/acts/scale", `{"count":2} {"count":3}`, 400},
		{"POST", "/v1/services/acts/scale", "", 400},
		{"GET", "/v1/events?since=-1", "", 400},
		{"GET", "/v1/logs?service=acts&tail=x", "", 400},
		{"GET", "/-/ready", "", 503},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		var body struct{ Error *Error }
		if w.Code != c.want || json.Unmarshal(w.Body.Bytes(), &body) != nil || body.Error == nil || body.Error.Message == "" {
			t.Errorf("%s %s %.40s: %d %s, want %d", c.method, c.path, c.body, w.Code, w.Body, c.want)
		}
	}
	if n.View().Applied != before {
		t.Error("a bad request changed the state")
	}
}

// TestWebPagesAreRefused: what a page in a browser on this machine could send.
func TestWebPagesAreRefused(t *testing.T) {
	n, _ := leading(t)
	h := noBrowsers(NewServer(n, slog.New(slog.DiscardHandler), whole).routes())
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"127.0.0.1:7480", "", 200}, {"[::1]:7480", "", 200}, {"orchd", "", 200},
		{"127.0.0.1:7480", "http://evil.example", 403}, {"127.0.0.1:7480", "null", 403}, {"evil.example:7480", "", 403}, {"", "", 403},
	} {
		r := httptest.NewRequest("POST", "/v1/services/acts/scale", strings.NewReader(`{"count":2}`))
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("host %q, origin %q: %d %s, want %d", c.host, c.origin, w.Code, w.Body, c.want)
		}
	}
}

func TestDashboardShowsTheTable(t *testing.T) {
	n, _ := leading(t)
	w := httptest.NewRecorder()
	Dashboard(n).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, want := range []string{"acts/1", "8000", "True", "Leader n1", "relaunch acts/1", "500 ms"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in %s", want, w.Body)
		}
	}
}

// TestDashboardTrustsNothing: a reason comes from a container, and is text.
func TestDashboardTrustsNothing(t *testing.T) {
	n, _ := leading(t)
	row, _ := n.View().Container("acts", 1)
	if _, err := n.ProposeHere(t.Context(), fsm.SetStatus{Row: row.Row(), Reason: "<script>alert(1)</script>"}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	Dashboard(n).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if body := w.Body.String(); strings.Contains(body, "<script") || !strings.Contains(body, "&lt;script&gt;") || strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Errorf("%s", body)
	}
}
