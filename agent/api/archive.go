package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"orch/fsm"
)

// archive answers with a file that docs/operations.md describes; stale=1 takes it also
// without a leader.
func (s *Server) archive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
	defer cancel()
	b, err := s.node.Archive(ctx, r.URL.Query().Get("stale") == "1")
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b) // a reader that is gone has cut it off, and its checksum will say so
}

// Archive copies the cluster's state as a snapshot file to w.
func (c *Client) Archive(ctx context.Context, stale bool, w io.Writer) error {
	path := "/v1/snapshot"
	if stale {
		path += "?stale=1"
	}
	r, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("snapshot of %s: %w", c.name, err)
	}
	return nil
}

// forceTimeout bounds a removal by force, which may have to judge (1 s, twice), to take
// leadership (3 s) and a vote, to commit and to see that it is known (1 s). One that was cut
// off between vote and table is made good by the roll, which takes the node in again, or by
// the same command once more, which finishes it.
const forceTimeout = 12 * time.Second

func (s *Server) removeNode(w http.ResponseWriter, r *http.Request) {
	force, limit := r.URL.Query().Get("force") == "1", writeTimeout
	if force {
		limit = forceTimeout
	}
	s.shutOut(w, r, retryFor(r.Context(), limit, true, func(ctx context.Context, perhaps bool) error {
		err := s.node.RemoveNode(ctx, r.PathValue("id"), force, s.by(r))
		switch {
		case perhaps && errors.Is(err, fsm.ErrNoSuchNode):
			return nil // the try before this one has done it
		case perhaps && errors.Is(err, fsm.ErrStale):
			return fmt.Errorf("%w: %w", ErrUnknown, err) // it may have, and the table here does not show it yet
		}
		return err
	}))
}

// RemoveNode takes a node out of the cluster that is lost for good, or with force one
// that is alive.
func (c *Client) RemoveNode(ctx context.Context, id string, force bool) (o ShutOut, err error) {
	path := "/v1/nodes/" + url.PathEscape(id)
	if force {
		path += "?force=1"
	}
	return o, c.call(ctx, http.MethodDelete, path, nil, &o)
}
