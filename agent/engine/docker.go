package engine

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

// Docker runs containers on a Docker Engine.
type Docker struct {
	cli *client.Client

	mu         sync.Mutex
	negotiated bool
}

// NewDocker returns an engine at host (as unix:///var/run/docker.sock; empty for
// the environment's). It does not connect yet.
func NewDocker(host string) (*Docker, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	cli, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	return &Docker{cli: cli}, nil
}

// Name is "docker".
func (d *Docker) Name() string { return "docker" }

// Close lets idle connections go.
func (d *Docker) Close() error { return d.cli.Close() }

// Ping says whether the engine answers. The first success fixes the API version:
// the client drops the error of its own negotiation and would go on with a
// version that an older engine refuses.
func (d *Docker) Ping(ctx context.Context) error {
	p, err := d.cli.Ping(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.negotiated {
		d.cli.NegotiateAPIVersionPing(p)
		d.negotiated = true
	}
	return nil
}

func (d *Docker) connect(ctx context.Context) error {
	d.mu.Lock()
	done := d.negotiated
	d.mu.Unlock()
	if done {
		return nil
	}
	return d.Ping(ctx)
}

// HasImage says whether the engine can run image without a registry.
func (d *Docker) HasImage(ctx context.Context, image string) (bool, error) {
	if err := d.connect(ctx); err != nil {
		return false, err
	}
	_, err := d.cli.ImageInspect(ctx, image)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, classify(err)
}

// Run creates and starts a container, or adopts the running one of that name and
// those labels.
func (d *Docker) Run(ctx context.Context, s Spec) (Container, error) {
	if err := d.connect(ctx); err != nil {
		return Container{}, err
	}
	if ip := net.ParseIP(s.HostIP); ip == nil || ip.IsUnspecified() {
		return Container{}, fmt.Errorf("run %s: publish address %q: name one address of this machine", s.Name, s.HostIP)
	}
	if err := prepare(s); err != nil {
		return Container{}, err
	}
	for range 2 {
		id, err := d.create(ctx, s)
		if errdefs.IsConflict(err) {
			c, ierr := d.Inspect(ctx, s.Name)
			switch {
			case ierr != nil:
				return Container{}, fmt.Errorf("run %s: %w", s.Name, ierr)
			case !ours(c.Labels, s.Labels):
				return Container{}, fmt.Errorf("run %s: %w: container %.12s", s.Name, ErrNameTaken, c.ID)
			case c.State == "running":
				return c, nil
			}
			// Left over from a start that failed, or ended: made anew.
			if err := d.Kill(ctx, c.ID); err != nil {
				return Container{}, err
			}
			continue
		}
		if err != nil {
			return Container{}, fmt.Errorf("create %s: %w", s.Name, classify(err))
		}
		if err := d.cli.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
			err = classify(err)
			if kerr := d.Kill(context.WithoutCancel(ctx), id); kerr != nil {
				err = fmt.Errorf("%w (and it could not be removed: %w)", err, kerr)
			}
			return Container{}, fmt.Errorf("start %s: %w", s.Name, err)
		}
		return d.Inspect(ctx, id)
	}
	return Container{}, fmt.Errorf("run %s: %w: it comes back each time it is removed", s.Name, ErrNameTaken)
}

// tmpSize is the room below /tmp of a container, which is read-only else.
const tmpSize = "64m"

func (d *Docker) create(ctx context.Context, s Spec) (string, error) {
	port := nat.Port(strconv.Itoa(s.ContainerPort) + "/tcp")
	host := &container.HostConfig{
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		PortBindings:   nat.PortMap{port: {{HostIP: s.HostIP, HostPort: strconv.Itoa(s.HostPort)}}},
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: true,
		Tmpfs:          map[string]string{"/tmp": "rw,noexec,nosuid,size=" + tmpSize},
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": s.LogMaxSize, "max-file": strconv.Itoa(max(1, s.LogMaxFiles)),
		}},
		Resources: container.Resources{Memory: s.MemoryBytes, NanoCPUs: s.NanoCPUs},
	}
	if s.LogMaxSize == "" {
		host.LogConfig.Config["max-size"] = "10m"
	}
	if s.PidsLimit > 0 {
		host.Resources.PidsLimit = &s.PidsLimit
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target})
	}
	cfg := &container.Config{
		Image: s.Image, Labels: s.Labels, Env: s.Env, Cmd: s.Command, User: s.User,
		ExposedPorts: nat.PortSet{port: {}},
	}
	made, err := d.cli.ContainerCreate(ctx, cfg, host, nil, nil, s.Name)
	return made.ID, err
}

// prepare makes the folders of a container's mounts, for its user.
func prepare(s Spec) error {
	uid, gid := -1, -1
	if s.User != "" {
		u, g, ok := strings.Cut(s.User, ":")
		uid, _ = strconv.Atoi(u)
		if gid = uid; ok {
			gid, _ = strconv.Atoi(g)
		}
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Source) {
			return fmt.Errorf("run %s: mount %s: name it by its whole path", s.Name, m.Source)
		}
		if err := os.MkdirAll(m.Source, 0o700); err != nil {
			return fmt.Errorf("run %s: make volume folder: %w", s.Name, err)
		}
		if uid < 0 || os.Geteuid() != 0 {
			continue
		}
		if err := os.Chown(m.Source, uid, gid); err != nil {
			return fmt.Errorf("run %s: hand volume folder to user %s: %w", s.Name, s.User, err)
		}
	}
	return nil
}

// ours: every label asked for is there.
func ours(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// classify gives an error of Docker's its meaning. Only the taken port has no
// type of its own; the engine says it in words.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case portTaken(err.Error()):
		return fmt.Errorf("%w: %w", ErrPortTaken, err)
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "image"):
		return fmt.Errorf("%w: %w", ErrNoImage, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

func portTaken(text string) bool {
	return strings.Contains(text, "port is already allocated") || strings.Contains(text, "address already in use")
}

// Inspect returns one container by ID or name.
func (d *Docker) Inspect(ctx context.Context, id string) (Container, error) {
	r, err := d.cli.ContainerInspect(ctx, id)
	if err != nil {
		return Container{}, fmt.Errorf("inspect %.32s: %w", id, classify(err))
	}
	c := Container{ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), Image: r.Config.Image, Labels: r.Config.Labels}
	c.Created, _ = time.Parse(time.RFC3339Nano, r.Created)
	if r.State != nil {
		c.State, c.ExitCode, c.Reason = r.State.Status, r.State.ExitCode, r.State.Error
		if r.State.OOMKilled {
			c.Reason = "out of memory"
		}
	}
	for port, bindings := range r.HostConfig.PortBindings {
		for _, b := range bindings {
			c.HostIP = b.HostIP
			c.HostPort, _ = strconv.Atoi(b.HostPort)
		}
		if n := r.NetworkSettings; n != nil && c.State == "running" {
			for _, e := range n.Networks {
				if e.IPAddress != "" {
					c.Addr = net.JoinHostPort(e.IPAddress, port.Port())
				}
			}
		}
	}
	return c, nil
}

// List returns every container that has all labels, running or not.
func (d *Docker) List(ctx context.Context, labels map[string]string) ([]Container, error) {
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	list, err := d.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", classify(err))
	}
	out := make([]Container, 0, len(list))
	for _, s := range list {
		c, err := d.Inspect(ctx, s.ID)
		if errdefs.IsNotFound(err) {
			continue // gone since
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func labelFilter(labels map[string]string) filters.Args {
	f := filters.NewArgs()
	for k, v := range labels {
		f.Add("label", k+"="+v)
	}
	return f
}

// Kill ends a container at once and removes it; one that is gone is success.
func (d *Docker) Kill(ctx context.Context, id string) error {
	err := d.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if errdefs.IsConflict(err) { // its removal is under way
		return d.gone(ctx, id)
	}
	return fmt.Errorf("kill %.12s: %w", id, classify(err))
}

// gone waits until a removal that somebody else began has ended.
func (d *Docker) gone(ctx context.Context, id string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := d.cli.ContainerInspect(ctx, id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the removal of %.12s: %w", id, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Stop sends SIGTERM, after grace SIGKILL, and removes the container.
func (d *Docker) Stop(ctx context.Context, id string, grace time.Duration) error {
	seconds := int((grace + time.Second - 1) / time.Second)
	err := d.cli.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("stop %.12s: %w", id, classify(err))
	}
	return d.Kill(ctx, id)
}

// Logs copies a container's standard output and error to w; with follow until it
// ends or ctx does.
func (d *Docker) Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error {
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"}
	if tail > 0 {
		opts.Tail = strconv.Itoa(tail)
	}
	r, err := d.cli.ContainerLogs(ctx, id, opts)
	if err != nil {
		return fmt.Errorf("logs of %.12s: %w", id, classify(err))
	}
	defer r.Close()
	if _, err := stdcopy.StdCopy(w, w, r); err != nil && ctx.Err() == nil {
		return fmt.Errorf("logs of %.12s: %w", id, err)
	}
	return nil
}
