package worker

import (
	"context"
	"io"
	"time"
)

// Engine runs containers on this machine. Doing twice is doing once: Kill and
// Stop of a container that is gone succeed.
type Engine interface {
	// Run creates and starts a container, or adopts the running one of that name
	// and those labels.
	Run(ctx context.Context, s Spec) (Container, error)
	// List returns the containers that have all labels, running or not.
	List(ctx context.Context, labels map[string]string) ([]Container, error)
	// Kill ends a container at once and removes it; a paused one too.
	Kill(ctx context.Context, id string) error
	// Stop asks a container to end, kills it after grace, and removes it.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Logs copies the last tail lines (0: all) to w, and with follow what comes.
	Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error
	// Events is closed when ctx ends, or when the stream breaks.
	Events(ctx context.Context, labels map[string]string) <-chan Event
}

// Spec is one container to be run.
type Spec struct {
	Name          string
	Image         string
	ImageID       string
	Labels        map[string]string
	Env           []string // K=V
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
	Image    string
	Labels   map[string]string
	State    string // created, running, paused, restarting, removing, exited, dead
	ExitCode int
	Addr     string // host:port at which this machine reaches it directly, or empty
	HostIP   string
	HostPort int
	Created  time.Time
	Reason   string // why it ended, where the engine knows
}

// Event is one change in the life of a container.
type Event struct {
	Name, ID string
	Kind     string
	Labels   map[string]string
	At       time.Time
}

// States of a container that the worker tells apart.
const (
	stateCreated  = "created"
	stateRemoving = "removing"
	stateExited   = "exited"
	stateDead     = "dead"
	stateRunning  = "running"
	statePaused   = "paused"
	// stateDying is the worker's own word: an event said that it died, the engine
	// still lists it as alive, and its port may not be free yet.
	stateDying = "dying"
)

// alive: it has a process, and so may hold its port. A state that this release
// does not know counts as alive: killing is undone by nobody.
func (c Container) alive() bool {
	switch c.State {
	case stateCreated, stateRemoving, stateExited, stateDead:
		return false
	}
	return true
}

// Cause is what an error of the engine means for a row.
type Cause int

// The causes. Other is whatever this one container did wrong; it is reported, and
// the leader's back-off applies.
const (
	Other Cause = iota
	PortTaken
	NoImage
	NameTaken
	Unavailable
)
