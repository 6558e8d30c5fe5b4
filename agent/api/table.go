package api

import (
	"bytes"
	"context"
	"net/http"
	"strconv"

	"orch/fsm"
)

// table answers with the whole table, as a snapshot; the leader's alone.
func (s *Server) table(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
	defer cancel()
	v, err := s.node.LeaderView(ctx)
	var b bytes.Buffer
	if err == nil {
		err = fsm.WriteSnapshot(&b, v)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Write(b.Bytes()) // a reader that is gone has cut it off, and its checksum will say so
}

// Table asks the leader at this client's address for the table of now.
func (c *Client) Table(ctx context.Context) (*fsm.State, error) {
	r, err := c.open(ctx, http.MethodGet, "/v1/node/table", nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return fsm.ReadSnapshot(r)
}
