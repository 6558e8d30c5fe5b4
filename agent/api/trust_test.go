package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orch/fsm"
)

// TestWhoMayDoWhat: every route, and everybody who may come to it.
func TestWhoMayDoWhat(t *testing.T) {
	n, _ := leading(t)
	callers := map[string]Identity{
		"stranger": {Key: "k"}, "node": {Name: "node n2", Node: true}, "read": {Name: "ann", Role: fsm.RoleRead},
		"deploy": {Name: "bob", Role: fsm.RoleDeploy}, "admin": {Name: "eve", Role: fsm.RoleAdmin},
		"removed": {Name: "node n9", Node: true, Role: fsm.RoleAdmin, Refused: fmt.Errorf("%w: node n9", ErrRemoved)},
	}
	identify := func(r *http.Request) Identity { return callers[r.Header.Get("Who")] }
	h := NewServer(n, slog.New(slog.DiscardHandler), WithIdentify(identify)).routes()
	const (
		all    = "stranger node read deploy admin removed"
		see    = "node read deploy admin"
		deploy = "deploy admin"
		admin  = "admin"
		nodes  = "node"
	)
	for route, may := range map[string]string{
		"GET /-/healthy": all, "GET /-/ready": all, "POST /v1/admit": all,
		"GET /v1/ps": see, "GET /v1/nodes": see, "GET /v1/status": see, "GET /v1/events": see, "GET /v1/logs": see, "GET /v1/node/report": see,
		"GET /v1/services/none/revisions": see, "GET /v1/recover": see, "GET /v1/trust": see,
		"POST /v1/plan": deploy, "POST /v1/services": deploy, "DELETE /v1/services/none": deploy, "POST /v1/services/none/scale": deploy,
		"POST /v1/services/none/rollback": deploy, "POST /v1/services/none/restart": deploy,
		"POST /v1/init": admin, "POST /v1/join": admin, "POST /v1/leave": admin, "POST /v1/nodes/n1/drain": admin, "POST /v1/nodes/n1/undrain": admin,
		"DELETE /v1/nodes/n7": admin, "GET /v1/snapshot": admin, "POST /v1/recover": admin, "GET /v1/token": admin, "POST /v1/token": admin,
		"POST /v1/people": admin, "DELETE /v1/people/bob": admin, "POST /v1/ca/rotate": admin, "POST /v1/gossip/rotate": admin,
		"POST /v1/transfer": "node admin",
		"POST /v1/propose":  nodes, "POST /v1/node/probe": nodes, "POST /v1/suspect": nodes, "POST /v1/node/follow": nodes, "DELETE /v1/node/votes/n7": nodes,
	} {
		method, path, _ := strings.Cut(route, " ")
		for who := range callers {
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader("?")) // a body that is refused later
			r.Header.Set("Who", who)
			w := httptest.NewRecorder()
			cancel() // nothing waits for a leader
			h.ServeHTTP(w, r)
			allowed := strings.Contains(" "+may+" ", " "+who+" ")
			if (w.Code != http.StatusForbidden) != allowed {
				t.Errorf("%s by %s: %d %s", route, who, w.Code, w.Body)
			}
			if !allowed && (who == "removed") != strings.Contains(w.Body.String(), `"removed"`) {
				t.Errorf("%s by %s: %s", route, who, w.Body)
			}
		}
	}
}

// TestStrangersSayLittle: what they send is bounded before it is looked at.
func TestStrangersSayLittle(t *testing.T) {
	n, _ := leading(t)
	h := NewServer(n, slog.New(slog.DiscardHandler), WithIdentify(func(*http.Request) Identity { return Identity{Key: "k"} })).routes()
	for size, want := range map[int]int{100: http.StatusConflict, maxAdmit + 1: http.StatusRequestEntityTooLarge} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/admit", strings.NewReader(`{"protocol":1}`+strings.Repeat(" ", size-14))))
		if w.Code != want {
			t.Errorf("%d bytes: %d %s", size, w.Code, w.Body)
		}
	}
}

// TestRefusalNamesTheRole that is missing, and who gives it.
func TestRefusalNamesTheRole(t *testing.T) {
	n, _ := leading(t)
	identify := func(*http.Request) Identity { return Identity{Name: "ann", Role: fsm.RoleRead} }
	w := httptest.NewRecorder()
	NewServer(n, slog.New(slog.DiscardHandler), WithIdentify(identify)).routes().ServeHTTP(w, httptest.NewRequest("DELETE", "/v1/services/acts", nil))
	for _, want := range []string{"ann has the role read", "needs deploy", "orchctl grant ann --role deploy"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in %s", want, w.Body)
		}
	}
}

func (*one) Recovery(context.Context) (Recovery, error) { return Recovery{}, ErrNotMember }
func (*one) Recover(context.Context, RecoverOrder, string) (Recovery, error) {
	return Recovery{}, ErrNotMember
}
func (*one) Follow(context.Context, FollowOrder) error { return ErrNotMember }

// The trust of one is that of a node without keys.
func (*one) Admit(context.Context, AdmitRequest, string, string) (Admitted, error) {
	return Admitted{}, ErrNotMember
}
func (*one) Trust(context.Context) (Trust, error)         { return Trust{}, ErrNotMember }
func (*one) JoinToken(context.Context) (JoinToken, error) { return JoinToken{}, ErrNotMember }
func (*one) NewJoinToken(context.Context, TokenOrder, string) (JoinToken, error) {
	return JoinToken{}, ErrNotMember
}
func (*one) Grant(context.Context, GrantOrder, string) (Granted, error) {
	return Granted{}, ErrNotMember
}
func (*one) Revoke(context.Context, string, string) error { return fsm.ErrNoSuchPerson }
func (*one) RotateCA(context.Context, string) error       { return ErrNotMember }
func (*one) RotateGossip(context.Context, string) error   { return ErrNotMember }
func (*one) Seal(s fsm.Spec) (fsm.Spec, error)            { return s, nil }
func (*one) TakeVote(context.Context, string) error       { return ErrNoLeader }

// TestOnlyHere: a page whose name has come to mean loopback reads nothing.
func TestOnlyHere(t *testing.T) {
	h := OnlyHere(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	for host, want := range map[string]int{
		"127.0.0.1:7483": 200, "[::1]:7483": 200, "localhost:7483": 200, "localhost": 200, "[::1]": 200,
		"evil.example:7483": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example:80": 403, "": 200, // no browser leaves it out
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}
