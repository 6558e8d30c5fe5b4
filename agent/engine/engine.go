// Package engine runs containers on one machine. It owns the way to the Docker
// Engine and, where there is none, to plain processes; both keep one contract,
// which one test proves.
//
// It promises that doing twice is doing once: Run of a container that is there
// adopts it, Kill and Stop of one that is gone succeed. Every method may be
// called from many goroutines, ends when its ctx does, and has a limit of its own
// where the engine could hang. It never decides what should run, and never
// restarts anything by itself.
package engine

import (
	"errors"
	"time"
)

// Sentinels of what an engine can refuse; callers tell them apart by errors.Is.
var (
	// ErrPortTaken: somebody listens on the spec's host address and port.
	ErrPortTaken = errors.New("port taken")
	// ErrNoImage: the image is not on this machine; engines never fetch one.
	ErrNoImage = errors.New("no such image")
	// ErrNameTaken: the name is held by a container with other labels.
	ErrNameTaken = errors.New("name taken by a container that is not ours")
	// ErrUnavailable: the engine did not answer, which says nothing of its containers.
	ErrUnavailable = errors.New("container engine unavailable")
	// ErrNotFound: no container has this ID or name.
	ErrNotFound = errors.New("no such container")
)

// Spec is one container to be run.
type Spec struct {
	Name          string            // unique on the engine: letters, digits, _ . -
	Image         string            // must be on this machine
	ImageID       string            // run this one where it is here, whatever Image means by now
	Labels        map[string]string // whose it is: Run adopts only what has them all
	Env           []string          // K=V
	Command       []string          // arguments; the image's own when empty
	HostIP        string            // one address to publish on, never all of them
	HostPort      int
	ContainerPort int
	MemoryBytes   int64 // 0: no limit
	NanoCPUs      int64 // 1e9 is one core; 0: no limit
	PidsLimit     int64 // 0: DefaultPids
	Mounts        []Mount
	User          string // uid or uid:gid; the image's own when empty
	LogMaxSize    string // of one log file, as "10m"; empty: DefaultLogSize
	LogMaxFiles   int    // 0: DefaultLogFiles
}

// Mount is a folder of the machine in the container. Source is made when it is
// missing, and handed to the spec's user when that is a number and we are root.
type Mount struct{ Source, Target string }

// Limits of a container whose spec names none.
const (
	// DefaultPids is far above what a Go service uses (about 20 threads), and
	// stops a fork bomb.
	DefaultPids = 256
	// DefaultLogSize of one file; with DefaultLogFiles a container holds at most
	// 20 MB of the machine's disk in logs.
	DefaultLogSize  = "10m"
	DefaultLogFiles = 2
)

// Container is one container as the engine sees it.
type Container struct {
	ID       string
	Name     string
	Image    string
	Labels   map[string]string
	State    string // created, running, paused, restarting, removing, exited, dead
	ExitCode int    // 128 + signal when one ended it; -1 when nobody saw it
	Addr     string // host:port at which this machine reaches it directly, or empty
	HostIP   string
	HostPort int
	Created  time.Time
	Reason   string // why it ended, where the engine knows
}

// States of a container that the engines themselves tell apart.
const (
	stateCreated = "created"
	stateRunning = "running"
	statePaused  = "paused"
	stateExited  = "exited"
)

// Event is one change in the life of a container.
type Event struct {
	Name, ID string
	Kind     string            // start, die, kill, stop, pause, unpause, oom, destroy, or Resync
	Labels   map[string]string // the container's, and exitCode on a die
	At       time.Time
}

// Resync is the kind of an event that stands for any that were lost: look anew.
const Resync = "resync"

// eventBuffer is how many events wait for a slow reader: a host's worth of
// containers (100) that all die at once, with kill and die each.
const eventBuffer = 256
