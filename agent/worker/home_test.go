package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"orch/agent/worker"
	"orch/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const clusterID = "c-1"

// home is one node: a real store behind an in-process log, an engine in memory
// and at most one living worker. Everything happens in a synctest bubble.
type home struct {
	t      *testing.T
	store  *fsm.Store
	engine *memory
	caught chan struct{} // closed: the view is caught up
	logs   *logs

	mu       sync.Mutex
	index    uint64
	leader   bool
	observed []fsm.Observe // accepted reports
	refused  int           // while there was no leader
	frozen   *fsm.State

	w    *worker.Worker
	stop func()
}

var errNoLeader = errors.New("no leader")

// inBubble runs f on a node n1 with service acts (two nodes, grace 10 s).
func inBubble(t *testing.T, f func(h *home)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &home{t: t, store: fsm.NewStore(), engine: newMemory(), caught: make(chan struct{}), logs: &logs{}, leader: true, stop: func() {}}
		close(h.caught)
		h.apply(fsm.InitCluster{ClusterID: clusterID})
		for _, id := range []string{"n1", "n2"} {
			h.apply(fsm.PutNode{Node: fsm.Node{ID: id, Addr: "127.0.0.1", APIAddr: id + ":1", RaftAddr: id + ":2"}})
		}
		h.apply(fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts:1", Env: map[string]string{"B": "2", "A": "1", "C": "http://${ORCH_PROXY}/x", "ORCH_NODE": "liar"},
			User: "1000:1000", Volumes: []fsm.Volume{{Name: "data", Target: "/data"}}}.WithDefaults()})
		defer func() { h.stop() }()
		f(h)
	})
}

// apply commits a command as the leader would.
func (h *home) apply(c fsm.Command) any {
	h.t.Helper()
	result := h.commit(c)
	if err, bad := result.(error); bad {
		h.t.Fatalf("%T: %v", c, err)
	}
	return result
}

func (h *home) commit(c fsm.Command) any {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := fsm.Encode(time.Now().UnixMilli(), c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.index++
	result := h.store.Apply(h.index, 1, data)
	if err := fsm.Check(h.store.View()); err != nil {
		h.t.Fatal(err)
	}
	return result
}

// Propose is the worker's way to the log.
func (h *home) Propose(ctx context.Context, c fsm.Command) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	if !h.leader {
		h.refused++
		h.mu.Unlock()
		return nil, errNoLeader
	}
	h.mu.Unlock()
	result := h.commit(c)
	if err, bad := result.(error); bad {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observed = append(h.observed, c.(fsm.Observe))
	return result, nil
}

func (h *home) setLeader(there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leader = there
}

// View is the store's, or an older one while the follower lags.
func (h *home) View() *fsm.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frozen != nil {
		return h.frozen
	}
	return h.store.View()
}

func (h *home) Subscribe() (<-chan struct{}, func()) { return h.store.Subscribe() }

func (h *home) freeze(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen = nil
	if on {
		h.frozen = h.store.View()
	}
}

// start begins a new life of the worker; h.stop ends it.
func (h *home) start() { h.startWith(h.engine) }

func (h *home) startWith(e worker.Engine) {
	h.w = worker.New(worker.Config{
		Node: "n1", HostIP: "127.0.0.1", Proxy: "10.0.0.1:80", VolumeDir: "/var/lib/orchd/volumes",
		ClusterID: func() string { return h.View().ClusterID },
		CaughtUp: func(ctx context.Context) error {
			select {
			case <-h.caught:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Classify: classify, Logger: slog.New(slog.NewTextHandler(h.logs, nil)),
	}, h, h, e)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.w.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("Run: %v", err)
		}
		h.stop = func() {}
	}
}

// elapse lets time pass and everything settle.
func (h *home) elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// soon is time enough for several passes, and less than an interval.
const soon = 100 * time.Millisecond

func (h *home) place(number int, node string, port int) {
	h.t.Helper()
	h.apply(fsm.Place{Service: "acts", Number: number, Node: node, Port: port, Reason: "test"})
}

func (h *home) row(number int) fsm.Container {
	h.t.Helper()
	r, ok := h.store.View().Container("acts", number)
	if !ok {
		h.t.Fatalf("no row acts/%d", number)
	}
	return r
}

func (h *home) gone(number int) bool {
	_, ok := h.store.View().Container("acts", number)
	return !ok
}

func (h *home) relaunch(number int, node string, port int) {
	h.t.Helper()
	h.apply(fsm.Relaunch{Row: h.row(number).Row(), Node: node, Port: port, Reason: "test"})
}

// name of the container that a row has now.
func (h *home) name(number int) string { return worker.Name(clusterID, h.row(number)) }

func (h *home) wantRow(number int, phase fsm.Phase, reason string) {
	h.t.Helper()
	r := h.row(number)
	if r.Observed != phase || !strings.Contains(r.Reason, reason) {
		h.t.Fatalf("acts/%d is %s (%q), want %s (%q); there are %v", number, r.Observed, r.Reason, phase, reason, h.engine.names())
	}
}

func (h *home) wantContainers(want ...string) {
	h.t.Helper()
	slices.Sort(want)
	if got := h.engine.names(); !slices.Equal(got, want) {
		h.t.Fatalf("containers are %v, want %v", got, want)
	}
}

func (h *home) reports() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.observed)
}

// logs keeps what was logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// spy keeps the last spec that was run.
type spy struct {
	*memory
	mu   sync.Mutex
	spec worker.Spec
	n    int
}

func (s *spy) Run(ctx context.Context, spec worker.Spec) (worker.Container, error) {
	s.mu.Lock()
	s.spec = spec
	s.n++
	s.mu.Unlock()
	return s.memory.Run(ctx, spec)
}

func (s *spy) last() worker.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec
}

func (s *spy) runs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}
