package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"orch/agent/consensus"
	"orch/agent/control"
	"orch/agent/engine"
	"orch/agent/worker"
)

// The rooms below agent do not know each other; here one's words become another's.

// containerEngine is what both engines are.
type containerEngine interface {
	Name() string
	Ping(ctx context.Context) error
	Run(ctx context.Context, s engine.Spec) (engine.Container, error)
	List(ctx context.Context, labels map[string]string) ([]engine.Container, error)
	ImageID(ctx context.Context, image string) (string, error)
	Kill(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error
	Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error
	Events(ctx context.Context, labels map[string]string) <-chan engine.Event
	Close() error
}

func newEngine(c Config) (containerEngine, error) {
	if c.Engine == "docker" {
		return engine.NewDocker("")
	}
	dir, err := filepath.Abs(filepath.Join(c.DataDir, "processes"))
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return engine.OpenProcess(engine.ProcessConfig{Dir: dir, Binaries: c.ProcessImages, KeepUser: true})
}

// workerEngine gives an engine to the worker.
type workerEngine struct{ containerEngine }

func (e workerEngine) Run(ctx context.Context, s worker.Spec) (worker.Container, error) {
	spec := engine.Spec{
		Name: s.Name, Image: s.Image, ImageID: s.ImageID, Labels: s.Labels, Env: s.Env, Command: s.Command, HostIP: s.HostIP, HostPort: s.HostPort,
		ContainerPort: s.ContainerPort, MemoryBytes: s.MemoryBytes, NanoCPUs: s.NanoCPUs, PidsLimit: s.PidsLimit,
		User: s.User, LogMaxSize: s.LogMaxSize, LogMaxFiles: s.LogMaxFiles,
	}
	for _, m := range s.Mounts {
		spec.Mounts = append(spec.Mounts, engine.Mount(m))
	}
	c, err := e.containerEngine.Run(ctx, spec)
	return workerContainer(c), err
}

func workerContainer(c engine.Container) worker.Container { return worker.Container(c) }

func (e workerEngine) List(ctx context.Context, labels map[string]string) ([]worker.Container, error) {
	list, err := e.containerEngine.List(ctx, labels)
	out := make([]worker.Container, len(list))
	for i, c := range list {
		out[i] = workerContainer(c)
	}
	return out, err
}

func (e workerEngine) Events(ctx context.Context, labels map[string]string) <-chan worker.Event {
	out := make(chan worker.Event)
	events := e.containerEngine.Events(ctx, labels)
	go func() { // ends with events, which end with ctx
		defer close(out)
		for e := range events {
			select {
			case out <- worker.Event(e):
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func classify(err error) worker.Cause {
	switch {
	case errors.Is(err, engine.ErrPortTaken):
		return worker.PortTaken
	case errors.Is(err, engine.ErrNoImage):
		return worker.NoImage
	case errors.Is(err, engine.ErrNameTaken):
		return worker.NameTaken
	case errors.Is(err, engine.ErrUnavailable):
		return worker.Unavailable
	}
	return worker.Other
}

// lateGossip gives the roll of nodes to control; it is empty until this node gossips.
type lateGossip struct{ *Node }

func (g lateGossip) Members() []control.Member {
	list := g.gossip.Load()
	if list == nil {
		return nil
	}
	members := list.Members()
	out := make([]control.Member, len(members))
	for i, m := range members {
		out[i] = control.Member{ID: m.ID, Status: m.Status, Since: m.Since}
	}
	return out
}

func (g lateGossip) Kick() <-chan struct{} {
	if list := g.gossip.Load(); list != nil {
		return list.Kick()
	}
	return nil
}

// voters gives Raft's configuration to control.
type voters struct{ *consensus.Node }

func (v voters) Voters() ([]control.Voter, error) {
	list, err := v.Members()
	out := make([]control.Voter, len(list))
	for i, m := range list {
		out[i] = control.Voter{ID: m.ID, Addr: m.Addr, Voter: m.Voter}
	}
	return out, err
}
