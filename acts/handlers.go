package acts

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// fail answers with the one shape that errors have.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, map[string]any{"error": map[string]any{"code": status, "message": fmt.Sprintf(format, args...)}})
}

// answer writes body as JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client is gone where this fails
}

func empty(w http.ResponseWriter, status int) { answer(w, status, struct{}{}) }

// later says when to ask again, with 503.
func later(w http.ResponseWriter) { w.Header().Set("Retry-After", "1") }

// refused answers a refusal, or an error that is not the client's.
func (s *Service) refused(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	switch {
	case errors.As(err, &no):
	case errors.Is(err, errStorage):
		s.log.Error("no room on disk", "reason", err)
		no = &refusal{http.StatusServiceUnavailable, "the service has no room on its disk now; try again later"}
	default:
		s.broken(w, r, err)
		return
	}
	switch no.status {
	case http.StatusServiceUnavailable:
		later(w)
	case http.StatusRequestTimeout, http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close") // the rest of the body is not waited for
	}
	fail(w, no.status, "%s", no.message)
}

// broken answers an error that is not the client's.
func (s *Service) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "reason", err)
	}
	fail(w, http.StatusInternalServerError, "the service could not use its database or its photos; try again")
}

// done answers the outcome of a change: ok, or 400 where the thing exists or is not
// known, said of field.
func (s *Service) done(w http.ResponseWriter, r *http.Request, status int, field, value string, err error) {
	switch {
	case err == nil:
		empty(w, status)
	case errors.Is(err, errExists):
		fail(w, http.StatusBadRequest, "%s: %.80q exists already; choose another", field, value)
	case errors.Is(err, errUnknown):
		fail(w, http.StatusBadRequest, "%s: there is no %.80q; give one that exists", field, value)
	case errors.Is(err, errTooLong):
		fail(w, http.StatusBadRequest, "%s: %d bytes are too long for this service's database; choose a shorter one", field, len(value))
	default:
		s.refused(w, r, err)
	}
}

func (s *Service) crash(w http.ResponseWriter, _ *http.Request) {
	s.crashed.Store(true)
	s.log.Warn("crashed on request: 500 from now on")
	empty(w, http.StatusOK)
}

func (s *Service) requests(w http.ResponseWriter, r *http.Request) {
	n, err := s.counter.read(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	answer(w, http.StatusOK, []uint64{n})
}

func (s *Service) resetRequests(w http.ResponseWriter, r *http.Request) {
	s.done(w, r, http.StatusOK, "", "", s.counter.reset(r.Context()))
}

func (s *Service) addUser(w http.ResponseWriter, r *http.Request) {
	body, release, err := s.receive(w, r)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	defer release() // after it is stored: until then its name is in memory
	u, err := parseUser(body)
	if err == nil {
		err = s.store.addUser(r.Context(), u.Username, u.Password)
	}
	s.done(w, r, http.StatusCreated, "username", u.Username, err)
}

func (s *Service) listUsers(w http.ResponseWriter, r *http.Request) {
	s.list(w, r, "[]", func(out *spool) error {
		return s.store.users(r.Context(), func(name string) error { return out.item(name, "") })
	})
}

func (s *Service) removeUser(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("username")
	s.done(w, r, http.StatusOK, "username", name, s.store.removeUser(r.Context(), name))
}

func (s *Service) listCategories(w http.ResponseWriter, r *http.Request) {
	s.list(w, r, "{}", func(out *spool) error {
		return s.store.categories(r.Context(), func(name string, acts int64) error {
			return out.item(name, ":"+strconv.FormatInt(acts, 10))
		})
	})
}

func (s *Service) addCategory(w http.ResponseWriter, r *http.Request) {
	body, release, err := s.receive(w, r)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	defer release() // as in addUser
	name, err := parseCategory(body)
	if err == nil {
		err = s.store.addCategory(r.Context(), name)
	}
	s.done(w, r, http.StatusCreated, "category", name, err)
}

func (s *Service) removeCategory(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("category")
	photos, err := s.store.removeCategory(r.Context(), name, removeNow)
	if err == nil {
		s.photos.remove(r.Context(), s.log, photos...)
	}
	s.done(w, r, http.StatusOK, "category", name, err)
}

func (s *Service) categorySize(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("category")
	n, _, err := s.store.size(r.Context(), name)
	if err != nil {
		s.done(w, r, 0, "category", name, err)
		return
	}
	answer(w, http.StatusOK, []int64{n})
}

func (s *Service) countActs(w http.ResponseWriter, r *http.Request) {
	n, err := s.store.count(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	answer(w, http.StatusOK, []int64{n})
}

func (s *Service) removeAct(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	key, err := s.store.removeAct(r.Context(), id)
	if err == nil {
		s.photos.remove(r.Context(), s.log, key)
	}
	s.done(w, r, http.StatusOK, "actId", strconv.FormatInt(id, 10), err)
}

func (s *Service) upvote(w http.ResponseWriter, r *http.Request) {
	id, err := s.readUpvote(w, r)
	if err == nil {
		err = s.store.upvote(r.Context(), id)
	}
	s.done(w, r, http.StatusOK, "actId", strconv.FormatInt(id, 10), err)
}
