package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
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

func (s *Server) removeNode(w http.ResponseWriter, r *http.Request) {
	s.shutOut(w, r, retry(r.Context(), true, func(ctx context.Context, _ bool) error {
		return s.node.RemoveNode(ctx, r.PathValue("id"), r.URL.Query().Get("force") == "1", s.by(r))
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
