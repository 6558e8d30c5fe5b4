package api

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orch/fsm"
)

// TestWhoMayDoWhat: every route, and everybody who may come to it.
func TestWhoMayDoWhat(t *testing.T) {
	n, _ := leading(t)
	callers := map[string]Identity{
		"stranger": {Key: "k"}, "node": {Name: "node n2", Node: "n2"}, "read": {Name: "ann", Role: fsm.RoleRead},
		"deploy": {Name: "bob", Role: fsm.RoleDeploy}, "admin": {Name: "eve", Role: fsm.RoleAdmin},
		"removed": {Name: "node n9", Node: "n9", Role: fsm.RoleAdmin, Refused: fmt.Errorf("%w: node n9", ErrRemoved)},
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
		"POST /v1/propose":  nodes, "POST /v1/node/probe": nodes, "POST /v1/suspect": nodes, "GET /v1/node/table": nodes, "POST /v1/node/follow": nodes, "DELETE /v1/node/votes/n7": nodes,
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

// TestJoinsAreRefusedUnread where too many have failed, and each is counted once, by how
// it went.
func TestJoinsAreRefusedUnread(t *testing.T) {
	n, _ := leading(t)
	h := NewServer(n, slog.New(slog.DiscardHandler)).routes()
	ask := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/admit", strings.NewReader(body)))
		return w
	}
	if w := ask(`{"protocol":1}`); w.Code != http.StatusConflict || len(n.tried) != 1 || !errors.Is(n.tried[0], ErrNotMember) {
		t.Errorf("%d %s, %v", w.Code, w.Body, n.tried)
	}
	if w := ask("{"); w.Code != http.StatusBadRequest || len(n.tried) != 2 || !errors.Is(n.tried[1], ErrBad) {
		t.Errorf("%d %s, %v", w.Code, w.Body, n.tried)
	}
	n.shut = true
	began := time.Now()
	if w := ask("{"); time.Since(began) < tooManyPause || w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "wait 7s") || len(n.tried) != 2 {
		t.Errorf("%d %s, %v", w.Code, w.Body, n.tried)
	}
}

// FuzzJoinBody: whatever a stranger sends is refused in the one shape.
func FuzzJoinBody(f *testing.F) {
	f.Add([]byte(`{"node":{"id":"n2","raft_addr":"10.0.0.2:7481"},"secret":"AAAA","request":"AAAA","now":1,"protocol":1}`))
	f.Add([]byte(`{"protocol":1e99}`))
	n := &one{Store: fsm.NewStore()}
	h := NewServer(n, slog.New(slog.DiscardHandler)).routes()
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/admit", bytes.NewReader(body)))
		n.tried = nil
		if w.Code < 400 || w.Code >= 500 || !strings.HasPrefix(w.Body.String(), `{"error":{"code":`) {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}

// TestNodesSpeakForThemselves: a node proposes what it sees of its own, and passes on what
// people ask who may; the rest is the leader's.
func TestNodesSpeakForThemselves(t *testing.T) {
	n, _ := leading(t)
	for _, p := range []fsm.Person{{Name: "ada", Role: fsm.RoleAdmin, Key: "ka"}, {Name: "dan", Role: fsm.RoleDeploy, Key: "kd"}} {
		if _, err := n.ProposeHere(t.Context(), fsm.Grant{Person: p}); err != nil {
			t.Fatal(err)
		}
	}
	v := n.View()
	who := Identity{Name: "node n2", Node: "n2", Key: "k2"}
	grant := func(by string) fsm.Command {
		return fsm.Grant{Person: fsm.Person{Name: "eve", Role: fsm.RoleAdmin, By: by}}
	}
	for name, x := range map[string]struct {
		c   fsm.Command
		may bool
	}{
		"its row":                   {fsm.Observe{Node: "n2"}, true},
		"another's row":             {fsm.Observe{Node: "n1"}, false},
		"its turns":                 {fsm.TakeTurns{Node: "n2"}, true},
		"another's turns":           {fsm.TakeTurns{Node: "n1"}, false},
		"nobody's turns":            {fsm.TakeTurns{}, false},
		"its line":                  {fsm.PutNode{Node: fsm.Node{ID: "n2", Key: "k2"}}, true},
		"its line with another key": {fsm.PutNode{Node: fsm.Node{ID: "n2", Key: "k9"}}, false},
		"another's line":            {fsm.PutNode{Node: fsm.Node{ID: "n1", Key: "k2"}}, false},
		"a joiner":                  {fsm.Admit{}, true},
		"that it leaves":            {fsm.SetNodeStatus{ID: "n2", Status: fsm.NodeDraining, By: "root on n2"}, true},
		"that another leaves":       {fsm.SetNodeStatus{ID: "n1", Status: fsm.NodeDraining, By: "root on n2"}, false},
		"that another is dead":      {fsm.SetNodeStatus{ID: "n1", Status: fsm.NodeDead, By: "root on n2"}, false},
		"that it is alive":          {fsm.SetNodeStatus{ID: "n2", Status: fsm.NodeAlive, By: "root on n2"}, false},
		"a removal":                 {fsm.SetNodeStatus{ID: "n1", Status: fsm.NodeLeft, Revoke: true, By: "ada"}, true},
		"a grant by its root":       {grant("root on n2"), true},
		"a grant by an admin":       {grant("ada"), true},
		"a grant by nobody":         {grant(""), false},
		"by another's root":         {grant("root on n1"), false},
		"by somebody without":       {grant("eve"), false},
		"by a deployer":             {grant("dan"), false},
		"a deployment":              {fsm.ScaleByHand{Service: "acts", By: "dan"}, true},
		"a placement":               {fsm.Place{Service: "acts", Node: "n2"}, false},
		"a verdict":                 {fsm.SetStatus{}, false},
		"a stop":                    {fsm.Stop{}, false},
		"another cluster":           {fsm.InitCluster{By: "root on n2"}, false},
		"a CA":                      {fsm.AddAuthority{By: "ada"}, true},
		"the CA that signs":         {fsm.SetSigner{}, false},
		"that a CA goes":            {fsm.DropAuthority{}, false},
		"other gossip keys":         {fsm.SetGossipKeys{Keys: []fsm.GossipKey{{ID: "mine"}}, By: "ada"}, false},
	} {
		if err := mayPropose(who, v, x.c); (err == nil) != x.may || err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// And at the route.
	h := NewServer(n, slog.New(slog.DiscardHandler), WithIdentify(func(*http.Request) Identity { return who })).routes()
	data, err := fsm.Encode(0, grant("root on n1"))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/propose", bytes.NewReader(data))); w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestWhoHasNotConfirmed that somebody is shut out is named.
func TestWhoHasNotConfirmed(t *testing.T) {
	n, c := leading(t)
	if _, err := n.ProposeHere(t.Context(), fsm.PutNode{Node: fsm.Node{ID: "n8", RaftAddr: "10.0.0.8:1", APIAddr: "10.0.0.8:2"}}); err != nil {
		t.Fatal(err)
	}
	if o, err := c.RemoveNode(t.Context(), "n8", false); err != nil || len(o.Unconfirmed) != 1 || o.Unconfirmed[0] != "n7" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := c.Revoke(t.Context(), "nobody"); !errors.Is(err, fsm.ErrNoSuchPerson) {
		t.Error(err)
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
func (*one) Admit(context.Context, AdmitRequest, string) (Admitted, error) {
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
func (n *one) MayTry(string) (func(error), error) {
	if n.shut {
		return nil, fmt.Errorf("%w: wait 7s", ErrTooMany)
	}
	return func(err error) { n.tried = append(n.tried, err) }, nil
}
func (*one) Unconfirmed(context.Context) []string         { return []string{"n7"} }
func (*one) Revoke(context.Context, string, string) error { return fsm.ErrNoSuchPerson }
func (*one) RotateGossip(context.Context, string) error   { return ErrNotMember }
func (*one) RotateCA(context.Context, string, crypto.PublicKey) (Rotated, error) {
	return Rotated{}, ErrNotMember
}
func (*one) Seal(s fsm.Spec) (fsm.Spec, error)      { return s, nil }
func (*one) TakeVote(context.Context, string) error { return ErrNoLeader }

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
