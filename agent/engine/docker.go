package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// Docker runs containers on a Docker Engine. Its client library is frozen upstream
// and imported by the docker*.go files alone, so that a successor changes nothing
// else.
type Docker struct {
	cli   *client.Client
	names names

	mu         sync.Mutex
	negotiated bool
}

// Limits of one call to the Docker Engine.
const (
	// answerLimit bounds a question (ping, list, inspect): milliseconds on a well
	// engine, seconds on one that pulls or prunes. A hung engine never answers.
	answerLimit = 10 * time.Second
	// changeLimit bounds a create, start or removal, as the slowest disks need.
	changeLimit = 60 * time.Second
	// connectTries and connectPause ride out an engine that is just restarting its
	// listener; longer outages are the caller's to wait for.
	connectTries = 3
	connectPause = 100 * time.Millisecond
)

// NewDocker returns an engine at host (as unix:///var/run/docker.sock; empty for
// the environment's, by DOCKER_HOST). It does not connect yet.
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
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	p, err := d.cli.Ping(ctx)
	if err != nil {
		return fmt.Errorf("ping: %w: %w", ErrUnavailable, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.negotiated {
		d.cli.NegotiateAPIVersionPing(p)
		d.negotiated = true
	}
	return nil
}

// connect makes sure that the API version is agreed before anything is asked.
func (d *Docker) connect(ctx context.Context) error {
	d.mu.Lock()
	done := d.negotiated
	d.mu.Unlock()
	if done {
		return nil
	}
	var err error
	for try := range connectTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(connectPause):
			}
		}
		if err = d.Ping(ctx); err == nil {
			return nil
		}
	}
	return err
}

// ImageID is what image means on this engine, or empty where it is not there.
func (d *Docker) ImageID(ctx context.Context, image string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := d.connect(ctx); err != nil {
		return "", err
	}
	found, err := d.cli.ImageInspect(ctx, image)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("inspect image %s: %w", image, classify(err))
	}
	return found.ID, nil
}

// HasImage says whether the engine can run image without a registry.
func (d *Docker) HasImage(ctx context.Context, image string) (bool, error) {
	id, err := d.ImageID(ctx, image)
	return id != "", err
}
