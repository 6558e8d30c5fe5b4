// Package worker makes the containers of one node match the rows that the leader
// put on it, and reports what it sees. The row is the order: nobody calls it.
//
// It promises that a container of a row's current generation is started at most
// once, that one which runs is adopted rather than started again, and that
// nothing is reported as stopped because the engine could not be asked. It never
// decides what runs where, and never restarts what has ended: that is a new
// generation, and the leader's.
package worker

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"orch/fsm"
)

// Spec is one container to be run, as the engine wants it.
type Spec struct {
	Name          string
	Image         string
	Labels        map[string]string
	Env           []string
	Command       []string
	HostIP        string
	HostPort      int
	ContainerPort int
	MemoryBytes   int64
	NanoCPUs      int64
	PidsLimit     int64
	Mounts        []Mount
	User          string
	LogMaxSize    string
	LogMaxFiles   int
}

// Mount is a folder of the machine in the container.
type Mount struct{ Source, Target string }

// Container is one container as the engine sees it.
type Container struct {
	ID       string
	Name     string
	Labels   map[string]string
	State    string
	ExitCode int
	Addr     string
	Reason   string
}

// Engine runs containers.
type Engine interface {
	Run(ctx context.Context, s Spec) (Container, error)
	List(ctx context.Context, labels map[string]string) ([]Container, error)
	Kill(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error
	Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error
	// Events pokes after anything happened to a container with those labels, and
	// is closed when ctx ends.
	Events(ctx context.Context, labels map[string]string) <-chan struct{}
}

// Cause is why an engine could not run a container.
type Cause int

// The causes that the worker tells apart.
const (
	Other Cause = iota
	PortTaken
	NoImage
	NameTaken
	Unavailable
)

// Proposer commits a command, wherever the leader is.
type Proposer interface {
	Propose(ctx context.Context, c fsm.Command) (any, error)
}

// Views is the replicated table.
type Views interface {
	View() *fsm.State
	Subscribe() (<-chan struct{}, func())
}

// Config of a worker.
type Config struct {
	Node      string
	HostIP    string
	ClusterID string
	VolumeDir string
	// CaughtUp returns once this node's table holds all that was committed when
	// it was asked; before that nothing is started or stopped.
	CaughtUp func(context.Context) error
	// Classify tells why an engine refused.
	Classify func(error) Cause
	// Interval is the time between full passes; events only hasten them.
	Interval time.Duration
	// OrphanGrace is how long a container that nobody asked for may go on.
	OrphanGrace time.Duration
	Logger      *slog.Logger
}

// Limits of the worker.
const (
	// maxOperations at once: starting a container costs an engine about 0.2 s of
	// one core.
	maxOperations = 8
	// operationTimeout bounds one start or kill; a hung engine must not hold a
	// slot for ever.
	operationTimeout = 30 * time.Second
	// proposeTimeout bounds one report: the next pass reports again.
	proposeTimeout = 3 * time.Second
)

// Worker of one node.
type Worker struct {
	cfg    Config
	views  Views
	prop   Proposer
	engine Engine

	slots      chan struct{}
	kick       chan struct{}
	reconciled chan struct{}

	mu       sync.Mutex
	busy     map[key]bool      // rows and containers with an operation under way
	ended    map[key]uint64    // generation of a row that was reported stopped
	orphans  map[string]time.Time // container ID → first seen as an orphan
	impaired string
	since    time.Time
}

// key of an operation: a row, or a container that belongs to none.
type key struct {
	service string
	number  int
	id      string
}

// New returns a worker; Run starts it.
func New(cfg Config, views Views, prop Proposer, engine Engine) *Worker {
	return &Worker{
		cfg: cfg, views: views, prop: prop, engine: engine,
		slots: make(chan struct{}, maxOperations), kick: make(chan struct{}, 1), reconciled: make(chan struct{}),
		busy: map[key]bool{}, ended: map[key]uint64{}, orphans: map[string]time.Time{},
	}
}

// Reconciled is closed after the first whole pass: what was there is adopted and
// what should not be is stopped.
func (w *Worker) Reconciled() <-chan struct{} { return w.reconciled }

// Impaired says why the engine can not be used and since when; empty is well.
func (w *Worker) Impaired() (string, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.impaired, w.since
}

// Logs copies the output of this node's container of a row to out.
func (w *Worker) Logs(ctx context.Context, service string, number int, follow bool, tail int, out io.Writer) error {
	list, err := w.engine.List(ctx, w.labels())
	if err != nil {
		return err
	}
	row, _ := w.views.View().Container(service, number)
	for _, c := range list {
		if c.Name == w.name(row) {
			return w.engine.Logs(ctx, c.ID, follow, tail, out)
		}
	}
	return fsm.ErrNoSuchRow
}
