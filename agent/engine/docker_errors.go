package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// classify gives an error of the Docker Engine its meaning, by its type.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// classifyCreate: all that a create can miss is its image.
func classifyCreate(err error) error {
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	return classify(err)
}

// classifyStart is the only place that reads an engine's words: a taken port comes
// as a plain server error without a type. The first text is said of a port that
// another container has, the second of one that a process of the host has.
func classifyStart(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		return fmt.Errorf("%w: %w", ErrPortTaken, err)
	case strings.Contains(text, "cannot assign requested address"):
		return fmt.Errorf("publish on an address of this machine: %w", err)
	}
	return classify(err)
}
