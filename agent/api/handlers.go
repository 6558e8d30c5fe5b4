package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orch/fsm"
)

// Signs of life, for whoever asks: /-/healthy says that orchd runs, /-/ready that this
// node should get requests.
func Signs(node interface{ Ready() error }) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, struct{}{}) })
	m.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := node.Ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]*Error{"error": {"not_ready", err.Error()}})
			return
		}
		answer(w, http.StatusOK, struct{}{})
	})
	return m
}

// events writes a line of JSON an event; with follow=1 it goes on until the reader
// leaves.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since, err := number(r, "since")
	if err != nil {
		fail(w, err)
		return
	}
	poke, end := s.node.Subscribe()
	defer end()
	w.Header().Set("Content-Type", "application/x-ndjson")
	last, enc, flush := uint64(since), json.NewEncoder(w), http.NewResponseController(w)
	for {
		next := last
		for _, e := range s.node.View().Events {
			if e.Index <= last {
				continue
			}
			next = e.Index
			if err := enc.Encode(event(e)); err != nil {
				return
			}
		}
		last = next
		if err := flush.Flush(); err != nil || r.URL.Query().Get("follow") != "1" {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-poke:
		}
	}
}

// logs streams plain text, "acts/3 | line" for each line.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q := LogQuery{Service: r.URL.Query().Get("service"), Follow: r.URL.Query().Get("follow") == "1", Local: r.URL.Query().Get("local") == "1"}
	var err, terr error
	q.Number, err = number(r, "number")
	q.Tail, terr = number(r, "tail")
	if err = errors.Join(err, terr); err == nil {
		if _, ok := s.node.View().Service(q.Service); !ok {
			err = fmt.Errorf("%w: %q", fsm.ErrNoSuchService, q.Service)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.node.Logs(r.Context(), q, &flusher{w, http.NewResponseController(w)}); err != nil && r.Context().Err() == nil {
		fmt.Fprintf(w, "orchd: logs of %s end here: %v\n", q.Service, err)
	}
}

// flusher sends each write at once.
type flusher struct {
	http.ResponseWriter
	c *http.ResponseController
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

func (s *Server) init(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
	defer cancel()
	a, err := s.node.Init(ctx, s.by(r))
	reply(w, a, err)
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Addr  string `json:"addr"`
		Token string `json:"token"`
	}
	if err := read(w, r, &body); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
	defer cancel()
	a, err := s.node.Join(ctx, body.Addr, body.Token)
	reply(w, a, err)
}

func reply(w http.ResponseWriter, body any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, body)
}

func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	reply(w, struct{}{}, retry(r.Context(), false, func(ctx context.Context, _ bool) error { return s.node.Leave(ctx, s.by(r)) }))
}

func (s *Server) transfer(w http.ResponseWriter, r *http.Request) {
	var body struct {
		To string `json:"to"`
	}
	if err := read(w, r, &body); err != nil {
		fail(w, err)
		return
	}
	ctx := withHop(r)
	if hop(ctx) > 1 { // the node that forwarded it tries again by itself
		reply(w, struct{}{}, s.node.Transfer(ctx, body.To, ""))
		return
	}
	reply(w, struct{}{}, retry(ctx, false, func(ctx context.Context, _ bool) error { return s.node.Transfer(ctx, body.To, s.by(r)) }))
}

// probeTimeout bounds a second opinion; the spec's own time-out is shorter.
const probeTimeout = time.Second

func (s *Server) probe(w http.ResponseWriter, r *http.Request) {
	var ref RowRef
	if err := read(w, r, &ref); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	verdict := struct {
		Healthy bool   `json:"healthy"`
		Reason  string `json:"reason"`
	}{Healthy: true}
	if err := s.node.Probe(ctx, ref); err != nil {
		verdict.Healthy, verdict.Reason = false, err.Error()
	}
	answer(w, http.StatusOK, verdict)
}

func (s *Server) suspect(w http.ResponseWriter, r *http.Request) {
	var ref RowRef
	if err := read(w, r, &ref); err != nil {
		fail(w, err)
		return
	}
	s.node.Suspect(ref)
	answer(w, http.StatusOK, struct{}{})
}
