package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orch/fsm"
)

// maxDrain is the longest time that a node may be given to drain: a day of maintenance.
const maxDrain = 24 * time.Hour

// spec reads a spec from a body; its secrets are sealed before anything else sees them.
func (s *Server) spec(w http.ResponseWriter, r *http.Request) (fsm.Spec, error) {
	var spec fsm.Spec
	if err := read(w, r, &spec); err != nil {
		return spec, err
	}
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return spec, err
	}
	return s.node.Seal(spec)
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	spec, err := s.spec(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, PlanOf(s.node.View(), spec, s.node.ImageID(r.Context(), spec.Image), r.URL.Query().Get("restart") == "1"))
}

// apply puts a spec; base is the revision that the plan was made from.
func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	spec, err := s.spec(w, r)
	base, berr := number(r, "base")
	if err = errors.Join(err, berr); err != nil {
		fail(w, err)
		return
	}
	c := fsm.PutService{Spec: spec, Base: uint64(base), ImageID: s.node.ImageID(r.Context(), spec.Image), By: s.by(r), Why: r.URL.Query().Get("why")}
	if r.URL.Query().Get("restart") == "1" {
		c.Restart = rand.Text()
	}
	s.write(w, r, c)
}

func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Why string `json:"why"`
	}
	sv, err := s.service(r)
	if err == nil {
		err = read(w, r, &body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	s.write(w, r, fsm.PutService{Spec: sv.Spec, Base: sv.Newest().Number, Restart: rand.Text(), ImageID: s.node.ImageID(r.Context(), sv.Spec.Image), By: s.by(r), Why: body.Why})
}

func (s *Server) service(r *http.Request) (fsm.Service, error) {
	sv, ok := s.node.View().Service(r.PathValue("name"))
	if !ok {
		return sv, fmt.Errorf("%w: %q", fsm.ErrNoSuchService, r.PathValue("name"))
	}
	return sv, nil
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	sv, err := s.service(r)
	reply(w, History(sv), err)
}

// RolledBack is the answer to a rollback.
type RolledBack struct {
	Service string `json:"service"`
	Left    uint64 `json:"left"`
	To      uint64 `json:"to"`
}

// rollBack takes a service back to a revision, or to the newest good one before.
func (s *Server) rollBack(w http.ResponseWriter, r *http.Request) {
	var body struct {
		To  uint64 `json:"to"`
		Why string `json:"why"`
	}
	sv, err := s.service(r)
	if err == nil {
		err = read(w, r, &body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	c := fsm.RollBack{Service: sv.Name, Left: sv.Newest().Number, To: body.To, By: s.by(r), Reason: body.Why}
	if c.To == 0 {
		before, ok := sv.Before()
		if !ok {
			fail(w, fmt.Errorf("%w: service %s has had no other revision that was good; `orchctl history %s` lists them: name one with --to", fsm.ErrOutOfRange, sv.Name, sv.Name))
			return
		}
		c.To = before.Number
	}
	reply(w, RolledBack{sv.Name, c.Left, c.To}, retry(r.Context(), true, func(ctx context.Context, perhaps bool) error {
		_, err := s.node.Propose(ctx, c)
		if perhaps && errors.Is(err, fsm.ErrStale) {
			if now, ok := s.node.View().Service(sv.Name); ok && now.Newest().From == c.To {
				return nil // the try before this one has done it
			}
		}
		return err
	}))
}

func (s *Server) drainNode(w http.ResponseWriter, r *http.Request) {
	var body struct {
		DeadlineMS int64 `json:"deadline_ms"`
	}
	err := read(w, r, &body)
	within := time.Duration(body.DeadlineMS) * time.Millisecond
	if err == nil && (body.DeadlineMS < 1 || within > maxDrain) {
		err = fmt.Errorf("%w: deadline %s: give between 1ms and %s, for example 10m", ErrBad, within, maxDrain)
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, struct{}{}, retry(r.Context(), true, func(ctx context.Context, _ bool) error {
		return s.node.DrainNode(ctx, r.PathValue("id"), within, s.by(r))
	}))
}

func (s *Server) undrainNode(w http.ResponseWriter, r *http.Request) {
	s.write(w, r, fsm.DrainNode{ID: r.PathValue("id"), By: s.by(r)})
}
