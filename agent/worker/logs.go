package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrNoContainer means that this node holds no container of that number.
var ErrNoContainer = errors.New("no such container on this node")

// Logs copies the last tail lines (0: all) of the newest container of that number
// on this node to w, and with follow what comes until it ends or ctx does.
func (w *Worker) Logs(ctx context.Context, service string, number int, follow bool, tail int, out io.Writer) error {
	k := key{service, number}
	list, err := w.list(ctx)
	if err != nil {
		return err
	}
	var newest *Container
	for _, c := range byKey(list)[k] {
		if newest == nil || newer(versionOf(c), versionOf(*newest)) {
			newest = &c
		}
	}
	if newest == nil {
		return fmt.Errorf("%w: %s on %s; ask the node that ps names", ErrNoContainer, k, w.cfg.Node)
	}
	if err := w.engine.Logs(ctx, newest.ID, follow, tail, out); err != nil {
		return fmt.Errorf("logs of %s: %w", k, err)
	}
	return nil
}

func newer(a, b version) bool {
	if a.created != b.created {
		return a.created > b.created
	}
	return a.generation > b.generation
}
