// Package engine runs containers on one machine. It owns the way to the Docker
// Engine and, where there is none, to plain processes; both keep one contract,
// which one test proves.
//
// It promises that doing twice is doing once: Run of a container that is there
// adopts it, Kill and Stop of one that is gone succeed. It never decides what
// should run, and never restarts anything by itself.
package engine

import (
	"errors"
	"time"
)

// Sentinels of what an engine can refuse; callers tell them apart by errors.Is.
var (
	ErrPortTaken   = errors.New("port taken")
	ErrNoImage     = errors.New("no such image")
	ErrNameTaken   = errors.New("name taken by a container that is not ours")
	ErrUnavailable = errors.New("container engine unavailable")
	ErrNotFound    = errors.New("no such container")
)

// Spec is one container to be run.
type Spec struct {
	Name          string // unique on the engine
	Image         string
	Labels        map[string]string
	Env           []string // K=V
	Command       []string // arguments; the image's own when empty
	HostIP        string   // one address to publish on, never all of them
	HostPort      int
	ContainerPort int
	MemoryBytes   int64
	NanoCPUs      int64
	PidsLimit     int64
	Mounts        []Mount
	User          string // numeric uid or uid:gid
	LogMaxSize    string // of one log file, as "10m"
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
	Kind     string // start, die, kill, stop, pause, unpause, oom, destroy, or resync
	Labels   map[string]string
	At       time.Time
}

// Resync is the kind of an event that stands for any that were lost.
const Resync = "resync"
