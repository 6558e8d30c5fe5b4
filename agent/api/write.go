package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orch/fsm"
)

// retry calls f until it finds a leader, for leaderWait at the most: an election is no
// reason to fail a command. Where repeat is true f is also called again after an outcome
// that is not known, and is told so.
func retry(ctx context.Context, repeat bool, f func(ctx context.Context, perhaps bool) error) error {
	return retryFor(ctx, writeTimeout, repeat, f)
}

// retryFor is retry of what is more than a write, within that limit.
func retryFor(ctx context.Context, limit time.Duration, repeat bool, f func(ctx context.Context, perhaps bool) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	give := time.After(limit - (writeTimeout - leaderWait))
	var perhaps error // the last outcome that is not known
	for {
		err := f(ctx, perhaps != nil)
		unknown := errors.Is(err, ErrUnknown)
		if unknown {
			perhaps = err
		}
		if !errors.Is(err, ErrNoLeader) && !(unknown && repeat) {
			return err
		}
		select {
		case <-time.After(retryInterval):
			continue
		case <-give:
		case <-ctx.Done():
		}
		if perhaps != nil { // "nothing was changed" would be a guess
			return perhaps
		}
		return fmt.Errorf("%w was found in time, so nothing was changed; the containers are served all the same: see `orchctl status` for the nodes that are missing, start them, and try again (%w)", ErrNoLeader, err)
	}
}

// retryInterval is a sixth of the lan profile's election.
const retryInterval = 50 * time.Millisecond

// write commits a command that may be repeated, through the leader.
func (s *Server) write(w http.ResponseWriter, r *http.Request, c fsm.Command) {
	reply(w, struct{}{}, retry(r.Context(), true, func(ctx context.Context, _ bool) error {
		_, err := s.node.Propose(ctx, c)
		return err
	}))
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	c := fsm.RemoveService{Name: r.PathValue("name"), By: s.by(r)}
	reply(w, struct{}{}, retry(r.Context(), true, func(ctx context.Context, perhaps bool) error {
		_, err := s.node.Propose(ctx, c)
		if perhaps && errors.Is(err, fsm.ErrNoSuchService) {
			return nil // the try before this one has done it
		}
		return err
	}))
}

// forwardedHeader marks a request that a node makes while it answers another one.
const forwardedHeader = "Orch-Forwarded"

type hopKey struct{}

// hop is 0 outside of a request, 1 while one of a person or of a node's own accord is
// answered, 2 while one is that was forwarded.
func hop(ctx context.Context) int {
	n, _ := ctx.Value(hopKey{}).(int)
	return n
}

func withHop(r *http.Request) context.Context {
	n := 1
	if r.Header.Get(forwardedHeader) != "" {
		n = 2
	}
	return context.WithValue(r.Context(), hopKey{}, n)
}

// mayForward refuses a second hop: two nodes that take each other for the leader would
// else send a request to and fro.
func mayForward(ctx context.Context) error {
	if hop(ctx) > 1 {
		return fmt.Errorf("%w: the node that this was forwarded to does not lead any more", ErrNoLeader)
	}
	return nil
}
