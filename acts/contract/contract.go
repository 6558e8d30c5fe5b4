// Package contract is what clients of SelfieLessActs rely on, as a test that runs
// against any base URL: one process, many behind a proxy, users apart or not.
//
// It makes users, categories and acts under names of its own and takes them away
// again. Each request is a new one of its connection pool, so that behind a proxy each
// goes to another container: what one wrote the next must read.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Options of a run.
type Options struct {
	// Internals: /api/v1/_health and _count are reachable, and nobody else uses the
	// service.
	Internals bool
	// Users is the base URL of a container of the users service where that is apart, for
	// its internals; empty where one service has both.
	Users string
	// Strict: the service refuses what is no image (--strict-images).
	Strict bool
}

// Run holds the service at base, such as http://127.0.0.1:8000, to the contract.
func Run(t *testing.T, base string, o Options) {
	c := &client{t: t, base: base, o: o, http: &http.Client{Timeout: 30 * time.Second}, prefix: fmt.Sprintf("contract-%x-", time.Now().UnixNano()), nextID: time.Now().UnixMilli()}
	defer c.http.CloseIdleConnections()
	for _, part := range []struct {
		name string
		run  func(*client)
	}{
		{"users", users}, {"categories", categories}, {"uploads", uploads}, {"lists", lists}, {"order", order},
		{"votes", votes}, {"cascades", cascades}, {"images", images}, {"methods", methods}, {"content types", contentTypes}, {"internals", internals},
	} {
		t.Run(part.name, func(t *testing.T) {
			x := *c
			x.t = t
			part.run(&x)
			c.nextID = x.nextID
		})
	}
}

// client is one run: who it is, and what it has made.
type client struct {
	t      *testing.T
	base   string
	o      Options
	http   *http.Client
	prefix string
	nextID int64
}

func (c *client) name(s string) string { return c.prefix + s }

func (c *client) id() int64 { c.nextID++; return c.nextID }

// answer of the service.
type answer struct {
	status int
	body   string
	header http.Header
}

func (c *client) ask(method, path, body string) answer {
	c.t.Helper()
	return c.send(method, path, body, nil)
}

func (c *client) send(method, path, body string, header http.Header) answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{resp.StatusCode, string(bytes.TrimSpace(b)), resp.Header}
	c.shape(method, path, a)
	return a
}

// shape is what every answer of the API has: other hosts may read it, and it is JSON, but
// for the few that have no body at all.
func (c *client) shape(method, path string, a answer) {
	c.t.Helper()
	path, _, _ = strings.Cut(path, "?")
	if !strings.HasPrefix(path, "/api/") {
		return
	}
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "*" {
		c.t.Errorf("%s %s: %d with Access-Control-Allow-Origin %q, want *", method, path, a.status, got)
	}
	if none := a.status == http.StatusNoContent || a.status == http.StatusNotModified || method == http.MethodHead || path == "/api/v1/_health" && a.status == http.StatusOK; none {
		if a.body != "" {
			c.t.Errorf("%s %s: %d with a body, want none: %.100s", method, path, a.status, a.body)
		}
		return
	}
	if a.status < 300 && (strings.HasSuffix(path, "/image") || strings.HasSuffix(path, ".yaml")) {
		return
	}
	if a.status >= 400 && message(a) == "" {
		c.t.Errorf("%s %s: %d without the shape of an error: %.100s", method, path, a.status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" || !json.Valid([]byte(a.body)) {
		c.t.Errorf("%s %s: %d as %q, want JSON: %.100s", method, path, a.status, got, a.body)
	}
}

// step is one request and what must come back: the whole body, or a part of it where
// the status is an error, whose message must name the field.
type step struct {
	method, path, body string
	status             int
	want               string
}

func (c *client) walk(steps []step) {
	c.t.Helper()
	for _, s := range steps {
		a := c.ask(s.method, s.path, s.body)
		ok := a.status == s.status
		switch {
		case s.status == http.StatusNoContent:
			ok = ok && a.body == ""
		case s.status < 300:
			ok = ok && a.body == s.want
		default:
			ok = ok && s.want != "" && strings.Contains(message(a), s.want)
		}
		if !ok {
			c.t.Errorf("%s %s %.80s: %d %.300s; want %d %s", s.method, s.path, s.body, a.status, a.body, s.status, s.want)
		}
	}
}

// message of the one shape that errors have; empty for any other.
func message(a answer) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal([]byte(a.body), &e) != nil || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		return ""
	}
	return e.Error.Message
}

func quote(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

const password = "0123456789abcdef0123456789ABCDEF01234567"

func (c *client) user(name string) string {
	c.t.Helper()
	name = c.name(name)
	c.walk([]step{{"POST", "/api/v1/users", quote(map[string]string{"username": name, "password": password}), 201, "{}"}})
	c.t.Cleanup(func() { c.ask("DELETE", "/api/v1/users/"+url.PathEscape(name), "") })
	return name
}

func (c *client) category(name string) string {
	c.t.Helper()
	name = c.name(name)
	c.walk([]step{{"POST", "/api/v1/categories", quote([]string{name}), 201, "{}"}})
	c.t.Cleanup(func() { c.ask("DELETE", "/api/v1/categories/"+url.PathEscape(name), "") })
	return name
}

// act is an upload; edits replace or (nil) remove fields.
func act(id int64, user, category string, edits map[string]any) string {
	m := map[string]any{"actId": id, "username": user, "timestamp": "28-02-2019:05-04-03", "caption": "helped", "categoryName": category, "imgB64": pixelPNG}
	for k, v := range edits {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	return quote(m)
}

// listed is an act as it is listed.
type listed struct {
	ID        int64  `json:"actId"`
	Username  string `json:"username"`
	Timestamp string `json:"timestamp"`
	Caption   string `json:"caption"`
	Category  string `json:"categoryName"`
	Image     string `json:"imgB64"`
	Upvotes   *int64 `json:"upvotes"`
}

func (c *client) list(category, query string) []listed {
	c.t.Helper()
	a := c.ask("GET", "/api/v1/categories/"+url.PathEscape(category)+"/acts"+query, "")
	var all []listed
	if a.status != 200 || json.Unmarshal([]byte(a.body), &all) != nil {
		c.t.Errorf("list %s%s: %d %.200s", category, query, a.status, a.body)
	}
	return all
}

func ids(all []listed) []int64 {
	var out []int64
	for _, a := range all {
		out = append(out, a.ID)
	}
	return out
}

func (c *client) wantIDs(category, query string, want ...int64) {
	c.t.Helper()
	if got := ids(c.list(category, query)); !slices.Equal(got, want) {
		c.t.Errorf("%s%s lists %v, want %v", category, query, got, want)
	}
}
