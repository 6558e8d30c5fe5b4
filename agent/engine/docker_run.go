package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
)

// tmpfsOptions of /tmp, the only place a container may write besides its volumes:
// 64 MiB holds one upload of the largest body the proxy lets through, four times.
const tmpfsOptions = "rw,noexec,nosuid,nodev,size=64m"

// Run creates and starts a container, or adopts the running one of that name that
// has all the labels. One of ours by that name that does not run is the remainder
// of a failed start or has ended: it is removed and made anew.
func (d *Docker) Run(ctx context.Context, s Spec) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	c, err := d.run(ctx, s, func(context.Context) error { return nil })
	if err != nil {
		return Container{}, fmt.Errorf("run %s: %w", s.Name, err)
	}
	return c, nil
}

// run creates the container, waits until room is made for it, and starts it.
func (d *Docker) run(ctx context.Context, s Spec, room func(context.Context) error) (Container, error) {
	if err := s.check(); err != nil {
		return Container{}, err
	}
	if err := d.connect(ctx); err != nil {
		return Container{}, err
	}
	unlock, err := d.names.lock(ctx, s.Name)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	if err := makeVolumes(s.Mounts, s.User); err != nil {
		return Container{}, err
	}
	id, adopted, err := d.claim(ctx, s)
	if err != nil || adopted.ID != "" {
		return adopted, err
	}
	err = room(ctx)
	if err == nil {
		err = d.start(ctx, id)
	}
	if err != nil {
		// The name and its disk are given back even where ctx has ended.
		if kerr := d.Kill(context.WithoutCancel(ctx), id); kerr != nil {
			err = fmt.Errorf("%w (and it was left behind: %w)", err, kerr)
		}
		return Container{}, err
	}
	return d.Inspect(ctx, id)
}

// claim takes the name: by a new container's ID, or by one that runs already.
func (d *Docker) claim(ctx context.Context, s Spec) (id string, adopted Container, err error) {
	for range 2 {
		id, err := d.create(ctx, s)
		if err == nil {
			return id, Container{}, nil
		}
		if !errdefs.IsConflict(err) {
			return "", Container{}, fmt.Errorf("create: %w", classifyCreate(err))
		}
		c, ierr := d.Inspect(ctx, s.Name)
		switch {
		case errdefs.IsNotFound(ierr):
			continue // gone since
		case ierr != nil:
			return "", Container{}, ierr
		case c.Name != s.Name || !hasLabels(c.Labels, s.Labels):
			return "", Container{}, fmt.Errorf("%w: container %.12s", ErrNameTaken, c.ID)
		case c.State == stateRunning:
			return "", c, nil
		}
		if err := d.Kill(ctx, c.ID); err != nil {
			return "", Container{}, err
		}
	}
	return "", Container{}, fmt.Errorf("%w: it came back when it was removed", ErrNameTaken)
}

func (d *Docker) create(ctx context.Context, s Spec) (string, error) {
	s = s.withDefaults()
	port := nat.Port(strconv.Itoa(s.ContainerPort) + "/tcp")
	host := &container.HostConfig{
		// Healing is the leader's: an engine that restarts too would fight it.
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		PortBindings:   nat.PortMap{port: {{HostIP: s.HostIP, HostPort: strconv.Itoa(s.HostPort)}}},
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: true,
		Tmpfs:          map[string]string{"/tmp": tmpfsOptions},
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": s.LogMaxSize, "max-file": strconv.Itoa(s.LogMaxFiles),
		}},
		Resources: container.Resources{
			Memory: s.MemoryBytes, MemorySwap: s.MemoryBytes, // no swap on top
			NanoCPUs: s.NanoCPUs, PidsLimit: &s.PidsLimit,
		},
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target})
	}
	image, err := d.imageOf(ctx, s)
	if err != nil {
		return "", err
	}
	cfg := &container.Config{
		Image: image, Labels: s.Labels, Env: s.Env, Cmd: s.Command, User: s.User,
		ExposedPorts: nat.PortSet{port: {}},
	}
	made, err := d.cli.ContainerCreate(ctx, cfg, host, nil, nil, s.Name)
	return made.ID, err
}

// imageOf is the image by its name, so that people find it in a listing, unless the
// name means another one by now and the one that is asked for is still here.
func (d *Docker) imageOf(ctx context.Context, s Spec) (string, error) {
	if s.ImageID == "" {
		return s.Image, nil
	}
	means, err := d.ImageID(ctx, s.Image)
	if err != nil || means == s.ImageID {
		return s.Image, err
	}
	here, err := d.HasImage(ctx, s.ImageID)
	if err != nil || !here {
		return s.Image, err
	}
	return s.ImageID, nil
}

func (d *Docker) start(ctx context.Context, id string) error {
	if err := d.cli.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return fmt.Errorf("start: %w", classifyStart(err))
	}
	return nil
}

// Kill ends a container at once, paused or not, and removes it; one that is gone
// is success.
func (d *Docker) Kill(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := d.connect(ctx); err != nil {
		return err
	}
	err := d.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	switch {
	case err == nil || errdefs.IsNotFound(err):
		return nil
	case errdefs.IsConflict(err): // somebody else's removal is under way
		return d.gone(ctx, id)
	}
	return fmt.Errorf("kill %.12s: %w", id, classify(err))
}

// goneInterval is the wait between looks at a removal; one takes about 0.1 s.
const goneInterval = 20 * time.Millisecond

// gone waits until a removal that somebody else began has ended.
func (d *Docker) gone(ctx context.Context, id string) error {
	tick := time.NewTicker(goneInterval)
	defer tick.Stop()
	for {
		_, err := d.cli.ContainerInspect(ctx, id)
		switch {
		case errdefs.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("wait for the removal of %.12s: %w", id, classify(err))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the removal of %.12s: %w", id, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Stop sends SIGTERM, after grace (rounded up to seconds) SIGKILL, and removes the
// container; one that is gone is success.
func (d *Docker) Stop(ctx context.Context, id string, grace time.Duration) error {
	stopCtx, cancel := context.WithTimeout(ctx, grace+changeLimit)
	defer cancel()
	if err := d.connect(stopCtx); err != nil {
		return err
	}
	seconds := int((grace + time.Second - 1) / time.Second)
	err := d.cli.ContainerStop(stopCtx, id, container.StopOptions{Timeout: &seconds})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("stop %.12s: %w", id, classify(err))
	}
	return d.Kill(ctx, id)
}
