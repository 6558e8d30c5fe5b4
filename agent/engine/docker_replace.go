package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Replace ends and removes the container old, whatever its state, and runs s,
// which may take over its port. It is faster than Kill and Run one after the
// other: the new container is made while the old one dies, and what is left of
// the old one is removed after the new one has started. Where s is refused, old is
// gone all the same.
func (d *Docker) Replace(ctx context.Context, old string, s Spec) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := d.connect(ctx); err != nil {
		return Container{}, err
	}
	killed := make(chan error, 1)
	go func() { killed <- d.signalKill(ctx, old) }()
	c, err := d.run(ctx, s, func(context.Context) error { return <-killed })
	if kerr := d.Kill(ctx, old); kerr != nil && err == nil {
		return c, fmt.Errorf("replace %.12s: %w", old, kerr)
	}
	if err != nil {
		return Container{}, fmt.Errorf("replace %.12s by %s: %w", old, s.Name, err)
	}
	return c, nil
}

func (d *Docker) signalKill(ctx context.Context, id string) error {
	err := d.cli.ContainerKill(ctx, id, "KILL")
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // it does not run
		return nil
	}
	return classify(err)
}
