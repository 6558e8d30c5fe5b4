package acts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

func unescape(segment string) (string, error) { return url.PathUnescape(segment) }

// fail answers with the one shape that errors have.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, map[string]any{"error": map[string]any{"code": status, "message": fmt.Sprintf(format, args...)}})
}

func empty(w http.ResponseWriter, status int) { answer(w, status, struct{}{}) }

func (s *Service) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, indexPage)
}

func (s *Service) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := s.store.ping(ctx); err != nil {
		s.log.Error("not healthy", "reason", err)
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (s *Service) crash(http.ResponseWriter, *http.Request) {
	s.crashed.Store(true)
	s.log.Warn("crashed on request: 500 from now on")
}

func (s *Service) requests(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, []uint64{s.counter.value.Load()})
}

func (s *Service) resetRequests(w http.ResponseWriter, _ *http.Request) {
	s.counter.value.Store(0)
	empty(w, http.StatusOK)
}

// done answers the outcome of a change: ok, or 400 where the thing exists or is not
// known, said of field.
func (s *Service) done(w http.ResponseWriter, r *http.Request, status int, field, value string, err error) {
	switch {
	case err == nil:
		empty(w, status)
	case errors.Is(err, errExists):
		fail(w, http.StatusBadRequest, "%s: %q exists already; choose another", field, value)
	case errors.Is(err, errUnknown):
		fail(w, http.StatusBadRequest, "%s: there is no %q", field, value)
	default:
		s.broken(w, r, err)
	}
}

func (s *Service) addUser(w http.ResponseWriter, r *http.Request) {
	u, ok := readUser(w, r)
	if ok {
		s.done(w, r, http.StatusCreated, "username", u.Username, s.store.addUser(r.Context(), u.Username, u.Password))
	}
}

func (s *Service) listUsers(w http.ResponseWriter, r *http.Request) {
	names, err := s.store.users(r.Context())
	switch {
	case err != nil:
		s.broken(w, r, err)
	case len(names) == 0:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, http.StatusOK, names)
	}
}

func (s *Service) removeUser(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("username")
	s.done(w, r, http.StatusOK, "username", name, s.store.removeUser(r.Context(), name))
}

func (s *Service) listCategories(w http.ResponseWriter, r *http.Request) {
	all, err := s.store.categories(r.Context())
	switch {
	case err != nil:
		s.broken(w, r, err)
	case len(all) == 0:
		w.WriteHeader(http.StatusNoContent)
	default:
		answer(w, http.StatusOK, all)
	}
}

func (s *Service) addCategory(w http.ResponseWriter, r *http.Request) {
	name, ok := readCategory(w, r)
	if ok {
		s.done(w, r, http.StatusCreated, "category", name, s.store.addCategory(r.Context(), name))
	}
}

func (s *Service) removeCategory(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("category")
	s.done(w, r, http.StatusOK, "category", name, s.store.removeCategory(r.Context(), name))
}

func (s *Service) categorySize(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("category")
	n, err := s.store.size(r.Context(), name)
	if err != nil {
		s.done(w, r, 0, "category", name, err)
		return
	}
	answer(w, http.StatusOK, []int64{n})
}

func (s *Service) listActs(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("category")
	n, err := s.store.size(r.Context(), name)
	if err != nil {
		s.done(w, r, 0, "category", name, err)
		return
	}
	start, end, refused := span(r.URL.Query(), n)
	switch {
	case refused != "":
		fail(w, http.StatusBadRequest, "%s", refused)
		return
	case end-start+1 > pageLimit:
		fail(w, http.StatusRequestEntityTooLarge, "%d acts are asked for; at most %d are given at once: use ?start= and &end=", end-start+1, pageLimit)
		return
	case n == 0:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	list, err := s.store.newest(r.Context(), name, start-1, end-start+1)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	answer(w, http.StatusOK, list)
}

func (s *Service) addAct(w http.ResponseWriter, r *http.Request) {
	a, ok := readAct(w, r)
	if !ok {
		return
	}
	field, err := s.store.addAct(r.Context(), a)
	value := map[string]string{"username": a.Username, "categoryName": a.Category, "actId": strconv.FormatInt(a.ID, 10)}[field]
	s.done(w, r, http.StatusCreated, field, value, err)
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
	text := r.PathValue("actId")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "actId: %q is not a whole number", text)
		return
	}
	s.done(w, r, http.StatusOK, "actId", text, s.store.removeAct(r.Context(), id))
}

func (s *Service) upvote(w http.ResponseWriter, r *http.Request) {
	id, ok := readUpvote(w, r)
	if ok {
		s.done(w, r, http.StatusOK, "actId", strconv.FormatInt(id, 10), s.store.upvote(r.Context(), id))
	}
}
