package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orch/fsm"
)

// Client speaks to one node.
type Client struct {
	http *http.Client
	base string
	name string // for people
}

// NewClient returns a client of the node at addr: host:port, or the path of its unix
// socket. transport may be nil.
func NewClient(addr string, transport *http.Transport) *Client {
	if strings.Contains(addr, "/") {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", addr)
		}
		return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, IdleConnTimeout: time.Second}}, "http://" + socketHost, addr}
	}
	if transport == nil {
		transport = &http.Transport{IdleConnTimeout: time.Second}
	}
	return &Client{&http.Client{Transport: transport}, "http://" + addr, addr}
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// maxAnswer bounds an answer that is not a stream, in bytes: 500 rows are 200 KiB.
const maxAnswer = 16 << 20

func (c *Client) open(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.name, err)
	}
	if hop(ctx) > 0 {
		req.Header.Set(forwardedHeader, "1")
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, fmt.Errorf("ask %s: %w", c.name, err)
	case err != nil:
		return nil, fmt.Errorf("%w of %s: %w: is orchd running there?", ErrUnreachable, c.name, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return nil, failure(resp.StatusCode, b)
	}
	return resp.Body, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("ask %s: %w", c.name, err)
		}
	}
	return c.raw(ctx, method, path, body, out)
}

func (c *Client) raw(ctx context.Context, method, path string, body []byte, out any) error {
	r, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer))
	if err != nil {
		return fmt.Errorf("answer of %s: %w", c.name, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer of %s: %w", c.name, err)
	}
	return nil
}

// Healthy returns nil where an orchd answers.
func (c *Client) Healthy(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/-/healthy", nil, nil)
}

// PS returns the container table.
func (c *Client) PS(ctx context.Context) (rows []Row, err error) {
	return rows, c.call(ctx, http.MethodGet, "/v1/ps", nil, &rows)
}

// Nodes returns the nodes.
func (c *Client) Nodes(ctx context.Context) (nodes []NodeInfo, err error) {
	return nodes, c.call(ctx, http.MethodGet, "/v1/nodes", nil, &nodes)
}

// Status returns the state of the cluster.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Apply adds a service or changes it.
func (c *Client) Apply(ctx context.Context, s fsm.Spec, o ApplyOptions) error {
	return c.call(ctx, http.MethodPost, "/v1/services"+o.query(), s, nil)
}

// ApplyOptions say how a spec is to be applied.
type ApplyOptions struct {
	Base    uint64 // revision that the plan was made from; 0 is whichever there is
	Restart bool   // every container begins anew, whatever has changed
	Why     string
}

func (o ApplyOptions) query() string {
	v := url.Values{}
	if o.Base != 0 {
		v.Set("base", strconv.FormatUint(o.Base, 10))
	}
	if o.Restart {
		v.Set("restart", "1")
	}
	if o.Why != "" {
		v.Set("why", o.Why)
	}
	return "?" + v.Encode()
}

// Plan says what applying a spec would do.
func (c *Client) Plan(ctx context.Context, s fsm.Spec, o ApplyOptions) (p Plan, err error) {
	return p, c.call(ctx, http.MethodPost, "/v1/plan"+o.query(), s, &p)
}

// History returns the revisions of a service, the newest first.
func (c *Client) History(ctx context.Context, service string) (list []RevisionInfo, err error) {
	return list, c.call(ctx, http.MethodGet, "/v1/services/"+url.PathEscape(service)+"/revisions", nil, &list)
}

// RollBack takes a service back to a revision; 0 is the newest good one before.
func (c *Client) RollBack(ctx context.Context, service string, to uint64, why string) (r RolledBack, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/services/"+url.PathEscape(service)+"/rollback", map[string]any{"to": to, "why": why}, &r)
}

// Restart has every container of a service begin anew.
func (c *Client) Restart(ctx context.Context, service, why string) error {
	return c.call(ctx, http.MethodPost, "/v1/services/"+url.PathEscape(service)+"/restart", map[string]string{"why": why}, nil)
}

// DrainNode has a node's containers made elsewhere.
func (c *Client) DrainNode(ctx context.Context, id string, within time.Duration) error {
	return c.call(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(id)+"/drain", map[string]int64{"deadline_ms": within.Milliseconds()}, nil)
}

// UndrainNode lets a node have containers again.
func (c *Client) UndrainNode(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(id)+"/undrain", nil, nil)
}

// Delete removes a service.
func (c *Client) Delete(ctx context.Context, service string) error {
	return c.call(ctx, http.MethodDelete, "/v1/services/"+url.PathEscape(service), nil, nil)
}

// Scale fixes the number of containers; 0 gives it back to the rule.
func (c *Client) Scale(ctx context.Context, service string, count int) error {
	return c.call(ctx, http.MethodPost, "/v1/services/"+url.PathEscape(service)+"/scale", map[string]int{"count": count}, nil)
}

// Init makes a cluster of this one node.
func (c *Client) Init(ctx context.Context) (a Admission, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/init", nil, &a)
}

// Join has the node join the cluster of the node at addr.
func (c *Client) Join(ctx context.Context, addr, token string) (a Admission, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/join", map[string]string{"addr": addr, "token": token}, &a)
}

// Leave has the node hand over its containers and leave.
func (c *Client) Leave(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/leave", nil, nil)
}

// Transfer moves leadership to a node, or to the most advanced where to is empty.
func (c *Client) Transfer(ctx context.Context, to string) error {
	if err := mayForward(ctx); err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/v1/transfer", map[string]string{"to": to}, nil)
}

// Events copies events, a line of JSON each, to w.
func (c *Client) Events(ctx context.Context, follow bool, since uint64, w io.Writer) error {
	path := "/v1/events?since=" + strconv.FormatUint(since, 10)
	if follow {
		path += "&follow=1"
	}
	return c.stream(ctx, path, w)
}

// Logs copies the output of containers to w.
func (c *Client) Logs(ctx context.Context, q LogQuery, w io.Writer) error {
	v := url.Values{"service": {q.Service}, "number": {strconv.Itoa(q.Number)}, "tail": {strconv.Itoa(q.Tail)}}
	if q.Follow {
		v.Set("follow", "1")
	}
	if q.Local {
		v.Set("local", "1")
	}
	return c.stream(ctx, "/v1/logs?"+v.Encode(), w)
}

func (c *Client) stream(ctx context.Context, path string, w io.Writer) error {
	r, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil && ctx.Err() == nil {
		return fmt.Errorf("answer of %s: %w", c.name, err)
	}
	return nil
}

// Propose has the leader at this client's address commit a command. Where that node can
// not be reached the error is ErrNoLeader (nothing was sent); where its answer is lost it
// is ErrUnknown.
func (c *Client) Propose(ctx context.Context, cmd fsm.Command) (any, error) {
	data, err := fsm.Encode(0, cmd) // the leader stamps it
	if err != nil {
		return nil, err
	}
	if err := mayForward(ctx); err != nil {
		return nil, err
	}
	var out proposed
	err = c.raw(ctx, http.MethodPost, "/v1/propose", data, &out)
	var refused *Error
	var dial *net.OpError
	switch {
	case err == nil && out.Turn == nil:
		return nil, nil
	case err == nil:
		return *out.Turn, nil
	case errors.As(err, &refused):
		return nil, err
	case errors.As(err, &dial) && dial.Op == "dial":
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
}

// TakeVote has the leader take a node out of Raft that joins anew.
func (c *Client) TakeVote(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/node/votes/"+url.PathEscape(id), nil, nil)
}

// Report asks a node for its own state.
func (c *Client) Report(ctx context.Context) (r Report, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/node/report", nil, &r)
}

// Probe asks a node to probe a row of its own.
func (c *Client) Probe(ctx context.Context, r RowRef) (healthy bool, reason string, err error) {
	var v struct {
		Healthy bool   `json:"healthy"`
		Reason  string `json:"reason"`
	}
	err = c.call(ctx, http.MethodPost, "/v1/node/probe", r, &v)
	return v.Healthy, v.Reason, err
}

// Suspect has the leader probe a row at once.
func (c *Client) Suspect(ctx context.Context, r RowRef) error {
	return c.call(ctx, http.MethodPost, "/v1/suspect", r, nil)
}
