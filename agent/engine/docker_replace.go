package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// Replace ends and removes the container old, whatever its state, and runs s,
// which may take over its port and even its name. It is about 20 ms faster than
// Kill and Run one after the other (370 against 390 ms on two cores): the new
// container is made while the old one dies, and what is left of the old one is
// removed after the new one has started. Where s is refused, old is gone all the
// same.
func (d *Docker) Replace(ctx context.Context, old string, s Spec) (Container, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	c, err := d.replace(ctx, old, s)
	if err != nil {
		return Container{}, fmt.Errorf("replace %.12s by %s: %w", old, s.Name, err)
	}
	return c, nil
}

func (d *Docker) replace(ctx context.Context, old string, s Spec) (Container, error) {
	if err := d.connect(ctx); err != nil {
		return Container{}, err
	}
	var dying sync.WaitGroup
	var signalled error
	dying.Go(func() { signalled = d.signalKill(ctx, old) })
	c, err := d.run(ctx, s, func(context.Context) error {
		dying.Wait()
		return signalled
	})
	dying.Wait()
	if kerr := d.Kill(ctx, old); kerr != nil && err == nil {
		err = kerr
	}
	if err == nil && (c.ID == old || c.Name == old) {
		// Old had the new one's name and labels, and was taken for it as it died.
		return d.run(ctx, s, func(context.Context) error { return nil })
	}
	return c, err
}

// signalKill ends a container's processes and leaves the rest to be removed.
func (d *Docker) signalKill(ctx context.Context, id string) error {
	err := d.cli.ContainerKill(ctx, id, "KILL")
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // it does not run
		return nil
	}
	return classify(err)
}
