package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ProcessConfig of a process engine.
type ProcessConfig struct {
	// Binaries: image → the executable that stands for it.
	Binaries map[string]string
	// Dir holds one JSON file and the log files of each container. One daemon uses
	// it at a time.
	Dir string
	// ListenEnv is the variable that tells a service where to listen, as
	// HostIP:HostPort; empty: DefaultListenEnv. PORT and LISTEN are set too.
	ListenEnv string
	// KeepUser runs every container as the daemon's own user. Without it, root
	// hands a container to the spec's user, who must then be able to enter the
	// folders above its volumes and its executable.
	KeepUser bool
}

// DefaultListenEnv is what acts reads.
const DefaultListenEnv = "ACTS_LISTEN"

// watchInterval is how often the engine looks for what nobody tells it: the end of
// an adopted process, a pause from outside, a log that is too long.
const watchInterval = 100 * time.Millisecond

// Process runs containers as child processes, where there is no Docker Engine.
// They outlive the daemon and are found again by their files. A container ends
// when its first process does, and what that left behind in its group is killed.
// Limits of memory, cores and processes are Docker's: this engine has none.
type Process struct {
	cfg   ProcessConfig
	names names
	hub   hub

	mu     sync.Mutex
	list   map[string]*child // by ID
	closed bool

	stop    context.CancelFunc
	watched chan struct{}
}

// OpenProcess reads what an earlier daemon left in cfg.Dir and begins to watch it;
// Close ends that.
func OpenProcess(cfg ProcessConfig) (*Process, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("process folder %q: name it by its whole path", cfg.Dir)
	}
	if cfg.ListenEnv == "" {
		cfg.ListenEnv = DefaultListenEnv
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make process folder: %w", err)
	}
	p := &Process{cfg: cfg, list: map[string]*child{}, watched: make(chan struct{})}
	records, err := loadRecords(cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		c := &child{record: r, done: make(chan struct{})}
		if r.State == stateCreated {
			c.findStarted()
		}
		if c.State == stateExited {
			close(c.done)
		}
		p.list[r.ID] = c
		p.settle(c)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go p.watch(ctx)
	return p, nil
}

// Name is "process".
func (p *Process) Name() string { return "process" }

// Ping succeeds: there is no engine besides this one.
func (p *Process) Ping(context.Context) error { return nil }

// Close ends the watch over the containers; they go on running.
func (p *Process) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	<-p.watched
	return nil
}

// ImageID is empty: an executable has no other name than its path.
func (p *Process) ImageID(context.Context, string) (string, error) { return "", nil }

// HasImage says whether an executable stands for image.
func (p *Process) HasImage(_ context.Context, image string) (bool, error) {
	path, ok := p.cfg.Binaries[image]
	if !ok {
		return false, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("executable of image %s: %w", image, err)
	}
	return info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0, nil
}

// find returns the container of an ID or a name.
func (p *Process) find(id string) (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.list[id]; ok {
		return c, nil
	}
	for _, c := range p.list {
		if c.Name == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %.64s", ErrNotFound, id)
}

// Inspect returns one container by ID or name.
func (p *Process) Inspect(_ context.Context, id string) (Container, error) {
	c, err := p.find(id)
	if err != nil {
		return Container{}, err
	}
	return p.look(c), nil
}

// List returns every container that has all labels, running or not.
func (p *Process) List(_ context.Context, labels map[string]string) ([]Container, error) {
	out := []Container{}
	for _, c := range p.all() {
		if hasLabels(c.Labels, labels) {
			out = append(out, p.look(c))
		}
	}
	return out, nil
}

func (p *Process) all() []*child {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*child, 0, len(p.list))
	for _, c := range p.list {
		out = append(out, c)
	}
	return out
}

// look reads a container as it is now.
func (p *Process) look(c *child) Container {
	p.settle(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	out := Container{
		ID: c.ID, Name: c.Name, Image: c.Image, Labels: c.Labels, State: c.State, ExitCode: c.ExitCode,
		HostIP: c.HostIP, HostPort: c.HostPort, Created: c.Created, Reason: c.Reason,
	}
	if c.State == stateRunning {
		out.Addr = c.addr()
		if c.paused {
			out.State, out.Addr = statePaused, ""
		}
	}
	return out
}

// settle brings a container's state up to what the kernel says of its process.
func (p *Process) settle(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.State != stateRunning {
		return
	}
	alive, paused := c.Process.look()
	switch {
	case alive && paused != c.paused:
		c.paused = paused
		p.hub.tell(c.event(map[bool]string{true: "pause", false: "unpause"}[paused]))
	case !alive && !c.own: // of an own child the waiter knows more
		p.end(c, -1, "its exit code went to an earlier daemon")
	}
}

// end writes down that a container's process is gone; p.mu is held.
func (p *Process) end(c *child, code int, reason string) {
	if c.State != stateRunning {
		return
	}
	c.State, c.ExitCode, c.Reason, c.paused = stateExited, code, reason, false
	close(c.done)
	if _, known := p.list[c.ID]; !known || p.closed {
		return // forgotten, or the folder is another daemon's now
	}
	if err := c.save(p.cfg.Dir); err != nil {
		c.Reason = fmt.Sprintf("%s; %v", reason, err)
	}
	p.hub.tell(c.event("die"))
}

// watch looks at every container until Close.
func (p *Process) watch(ctx context.Context) {
	defer close(p.watched)
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range p.all() {
			p.settle(c)
			// A log that can not be cut is no reason to end a container: next tick.
			_ = cutLog(c.logPath(p.cfg.Dir), c.LogMaxBytes, c.LogMaxFiles)
		}
	}
}
