package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"orch/agent/worker"
)

var (
	errPort  = errors.New("port taken")
	errImage = errors.New("no such image")
	errName  = errors.New("name taken")
	errDown  = errors.New("engine unavailable")
	errStuck = errors.New("tried to kill container, but did not receive an exit event")
	errStart = errors.New("exec: no such file")
)

func classify(err error) worker.Cause {
	switch {
	case errors.Is(err, errPort):
		return worker.PortTaken
	case errors.Is(err, errImage):
		return worker.NoImage
	case errors.Is(err, errName):
		return worker.NameTaken
	case errors.Is(err, errDown):
		return worker.Unavailable
	}
	return worker.Other
}

// memory is an engine without processes: it enforces names, ports, images and
// states as a real one does, and tells its readers what happens.
type memory struct {
	mu     sync.Mutex
	serial int
	all    map[string]*box // by ID
	images map[string]bool
	taken  map[string]bool // host:port held by something else
	down   bool
	deaf   bool                     // events are lost
	lag    time.Duration            // of a listing
	late   time.Duration            // added to the time of events
	linger time.Duration            // from the event of a death until listings show it
	slow   map[string]time.Duration // by name: how long a start takes
	rude   map[string]bool          // by name: ignores SIGTERM
	stuck  map[string]bool          // by name: cannot be ended
	broken map[string]error         // by image: what a start ends with

	lists, starts int
	started       map[string]int // by name and orch.created
	readers       map[*reader]bool
}

type box struct {
	worker.Container
	log   string
	until time.Time // it has died, but is listed and holds its port until then
}

type reader struct {
	labels map[string]string
	out    chan worker.Event
	stop   context.CancelFunc
}

func newMemory() *memory {
	return &memory{
		all: map[string]*box{}, images: map[string]bool{"acts:1": true}, taken: map[string]bool{},
		slow: map[string]time.Duration{}, rude: map[string]bool{}, stuck: map[string]bool{}, broken: map[string]error{},
		started: map[string]int{}, readers: map[*reader]bool{},
	}
}

func matches(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

func holds(c worker.Container) bool {
	return c.State == "running" || c.State == "paused" || c.State == "removing"
}

func (m *memory) Run(ctx context.Context, s worker.Spec) (worker.Container, error) {
	id, err := m.create(s)
	if err != nil {
		return worker.Container{}, err
	}
	m.mu.Lock()
	wait := m.slow[s.Name]
	m.mu.Unlock()
	if wait > 0 {
		select {
		case <-ctx.Done():
			return worker.Container{}, ctx.Err() // it stays as created
		case <-time.After(wait):
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.all[id]
	if b == nil {
		return worker.Container{}, errStart
	}
	if b.State == "running" {
		return copied(b), nil
	}
	port := fmt.Sprintf("%s:%d", s.HostIP, s.HostPort)
	for _, o := range m.all {
		if o != b && (holds(o.Container) || time.Now().Before(o.until)) && fmt.Sprintf("%s:%d", o.HostIP, o.HostPort) == port {
			err = fmt.Errorf("%w: %s by %s", errPort, port, o.Name)
		}
	}
	switch {
	case m.down:
		err = errDown
	case m.taken[port]:
		err = errPort
	case err == nil:
		err = m.broken[s.Image]
	}
	if err != nil {
		delete(m.all, id)
		return worker.Container{}, err
	}
	b.State, b.Addr = "running", fmt.Sprintf("172.17.0.%d:%d", m.serial%250+2, s.ContainerPort)
	b.log = "started " + s.Name + "\n"
	m.starts++
	m.started[s.Name+" "+s.Labels[worker.LabelCreated]]++
	m.tell(b, "start")
	return copied(b), nil
}

func (m *memory) create(s worker.Spec) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.down:
		return "", errDown
	case !m.images[s.Image]:
		return "", fmt.Errorf("%w: %s", errImage, s.Image)
	}
	for id, b := range m.all {
		if b.Name != s.Name {
			continue
		}
		if !matches(b.Labels, s.Labels) {
			return "", fmt.Errorf("%w: %s", errName, id)
		}
		if b.State == "running" {
			return id, nil
		}
		delete(m.all, id)
	}
	m.serial++
	id := fmt.Sprintf("id%04d", m.serial)
	m.all[id] = &box{Container: worker.Container{
		ID: id, Name: s.Name, Image: s.Image, Labels: maps.Clone(s.Labels), State: "created",
		HostIP: s.HostIP, HostPort: s.HostPort, Created: time.Now(),
	}}
	return id, nil
}

func copied(b *box) worker.Container {
	c := b.Container
	c.Labels = maps.Clone(c.Labels)
	return c
}

func (m *memory) List(_ context.Context, labels map[string]string) ([]worker.Container, error) {
	out, lag, err := m.snapshot(labels)
	if lag > 0 {
		<-time.After(lag) // what it says is older than its answer
	}
	return out, err
}

func (m *memory) snapshot(labels map[string]string) ([]worker.Container, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	if m.down {
		return nil, m.lag, errDown
	}
	var out []worker.Container
	for _, id := range slices.Sorted(maps.Keys(m.all)) {
		if matches(m.all[id].Labels, labels) {
			c := copied(m.all[id])
			if time.Now().Before(m.all[id].until) {
				c.State, c.ExitCode, c.Reason, c.Addr = "running", 0, "", "172.17.0.1:1"
			}
			out = append(out, c)
		}
	}
	return out, m.lag, nil
}

func (m *memory) Kill(_ context.Context, id string) error {
	m.lingering(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.all[id]; b != nil && m.stuck[b.Name] {
		return errStuck
	}
	if m.down {
		return errDown
	}
	m.end(id, 137, "")
	m.remove(id)
	return nil
}

// lingering waits until a container that has died lets go, as Docker does.
func (m *memory) lingering(id string) {
	var wait time.Duration
	m.with(func() {
		if b := m.all[id]; b != nil {
			wait = time.Until(b.until)
		}
	})
	if wait > 0 {
		<-time.After(wait)
	}
}

func (m *memory) Stop(ctx context.Context, id string, grace time.Duration) error {
	m.lingering(id)
	m.mu.Lock()
	b := m.all[id]
	rude := b != nil && (m.rude[b.Name] || b.State == "paused") // a frozen process hears nothing
	m.mu.Unlock()
	if rude {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(grace):
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	m.end(id, 0, "")
	m.remove(id)
	return nil
}

func (m *memory) Logs(_ context.Context, id string, _ bool, _ int, w io.Writer) error {
	m.mu.Lock()
	b := m.all[id]
	m.mu.Unlock()
	if b == nil {
		return errStart
	}
	_, err := io.WriteString(w, b.log)
	return err
}

func (m *memory) Events(ctx context.Context, labels map[string]string) <-chan worker.Event {
	ctx, stop := context.WithCancel(ctx)
	r := &reader{labels: labels, out: make(chan worker.Event, 64), stop: stop}
	out := make(chan worker.Event)
	m.mu.Lock()
	if m.down {
		stop()
	}
	m.readers[r] = true
	m.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			m.mu.Lock()
			delete(m.readers, r)
			m.mu.Unlock()
			stop()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-r.out:
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// tell sends an event; a reader that is too slow loses it. m.mu is held.
func (m *memory) tell(b *box, kind string) {
	labels := maps.Clone(b.Labels)
	if kind == "die" && labels != nil && b.ExitCode >= 0 {
		labels["exitCode"] = fmt.Sprint(b.ExitCode)
	}
	for r := range m.readers {
		if m.deaf || !matches(b.Labels, r.labels) {
			continue
		}
		select {
		case r.out <- worker.Event{Name: b.Name, ID: b.ID, Kind: kind, Labels: labels, At: time.Now().Add(m.late)}:
		default:
		}
	}
}

func (m *memory) end(id string, code int, reason string) {
	if b := m.all[id]; b != nil && holds(b.Container) {
		b.State, b.ExitCode, b.Reason, b.Addr = "exited", code, reason, ""
		b.until = time.Now().Add(m.linger)
		if reason != "" {
			m.tell(b, "oom")
		}
		m.tell(b, "die")
	}
}

func (m *memory) remove(id string) {
	if b := m.all[id]; b != nil {
		delete(m.all, id)
		m.tell(b, "destroy")
	}
}
