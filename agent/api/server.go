package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"orch/fsm"
)

// Table is the replicated state as this node knows it.
type Table interface {
	View() *fsm.State
	Subscribe() (<-chan struct{}, func())
}

// Writer commits commands: Propose through the leader wherever it is, ProposeHere
// only if this node leads (ErrNoLeader otherwise).
type Writer interface {
	Propose(ctx context.Context, c fsm.Command) (any, error)
	ProposeHere(ctx context.Context, c fsm.Command) (any, error)
}

// Operator does what a person asks of this node.
type Operator interface {
	Init(ctx context.Context, by string) (Admission, error)
	Join(ctx context.Context, addr, token string) (Admission, error)
	Leave(ctx context.Context, by string) error
	// Transfer moves leadership; by is empty where another node passes it on.
	Transfer(ctx context.Context, to, by string) error
	// RemoveNode takes a lost node out of the cluster, or by force one that is alive.
	RemoveNode(ctx context.Context, id string, force bool, by string) error
	// ImageID is what an image means on this node's engine, empty where that is not known.
	ImageID(ctx context.Context, image string) string
	// DrainNode has a node's containers made elsewhere, within that time with a stand-in
	// for each, and no more put there.
	DrainNode(ctx context.Context, id string, within time.Duration, by string) error
}

// Self is what this node knows of itself and of the cluster.
type Self interface {
	Status(ctx context.Context) Status
	Report() Report
	Ready() error
	Logs(ctx context.Context, q LogQuery, w io.Writer) error
	// Archive is the replicated state as a file; a stale one may be behind.
	Archive(ctx context.Context, stale bool) ([]byte, error)
}

// Peer is what other nodes ask of this one.
type Peer interface {
	// Probe asks the health API of a container of this node, for a second opinion.
	Probe(ctx context.Context, r RowRef) error
	// TakeVote takes a node out of Raft that joins anew; the leader's alone.
	TakeVote(ctx context.Context, id string) error
	// Suspect has the leader probe a row at once. It does not block.
	Suspect(r RowRef)
	// LeaderView is the table with all that has been committed; the leader's alone.
	LeaderView(ctx context.Context) (*fsm.State, error)
}

// Node is all that the server asks of its node.
type Node interface {
	Table
	Writer
	Operator
	Self
	Peer
	Recoverer
	Truster
}

// LogQuery says which output of which containers is wanted.
type LogQuery struct {
	Service string
	Number  int // 0 is all
	Follow  bool
	Tail    int  // lines; 0 is all
	Local   bool // only those of the node asked
}

// Limits of the server.
const (
	// maxBody of a request, in bytes: a spec has to fit into a command.
	maxBody = 1 << 20
	// leaderWait is how long a write waits for a leader: three elections of the lan
	// profile, and short enough that a command ends within 5 s.
	leaderWait = 3 * time.Second
	// writeTimeout bounds one write.
	writeTimeout = 4 * time.Second
	// shutdownTimeout is for answers under way when the node stops.
	shutdownTimeout = 2 * time.Second
	// joinTimeout bounds init and join, which wait for their first commit.
	joinTimeout = 20 * time.Second
)

// Server answers the API of one node.
type Server struct {
	node     Node
	log      *slog.Logger
	identify Identify
	http     *http.Server
	// connContext is http.Server's.
	connContext func(context.Context, net.Conn) context.Context
}

// Option changes a server before it runs.
type Option func(*Server)

// NewServer returns a server; Run starts it.
func NewServer(node Node, log *slog.Logger, options ...Option) *Server {
	s := &Server{node: node, log: log, identify: nobody}
	for _, o := range options {
		o(s)
	}
	s.http = &http.Server{
		Handler:           noBrowsers(s.routes()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       s.connContext,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// WithConnContext notes something of each connection for Identify.
func WithConnContext(f func(context.Context, net.Conn) context.Context) Option {
	return func(s *Server) { s.connContext = f }
}

// Run serves on every listener until ctx ends, then lets answers finish.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	// A stream that is followed ends with the server.
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	var g errgroup.Group
	for _, l := range listeners {
		g.Go(func() error {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(end); err != nil {
		s.http.Close()
	}
	return g.Wait()
}

// noBrowsers refuses what only a browser sends: a web page that a person on this machine
// looks at must not steer the cluster, neither by a form (Origin) nor by a name that has
// come to mean this address (Host).
func noBrowsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostOf(r); r.Header.Get("Origin") != "" || host != socketHost && net.ParseIP(host) == nil {
			answer(w, http.StatusForbidden, map[string]*Error{"error": {"bad_request", "this API is not for web pages: ask it by its IP address, with orchctl or curl"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// OnlyHere refuses requests by a name that is not this machine's own: a web page whose
// name has come to mean loopback must not read what this machine alone may.
func OnlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostOf(r); host != "" && host != "localhost" && net.ParseIP(host) == nil {
			answer(w, http.StatusForbidden, map[string]*Error{"error": {"bad_request", "ask this by an IP address or as localhost"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return strings.Trim(host, "[]")
}

// socketHost stands for the node in requests over its unix socket.
const socketHost = "orchd"

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	open := func(pattern string, h http.HandlerFunc) { m.Handle(pattern, h) }
	to := func(a access) func(string, http.HandlerFunc) {
		return func(pattern string, h http.HandlerFunc) { m.Handle(pattern, s.only(a, h)) }
	}
	shared := to(access{fsm.RoleRead, true})
	deploy, admin := to(access{fsm.RoleDeploy, false}), to(access{fsm.RoleAdmin, false})
	either := to(access{fsm.RoleAdmin, true}) // a person asks it, or a node that passes it on
	among := to(access{"", true})

	m.Handle("GET /-/", Signs(s.node))
	shared("GET /v1/ps", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Rows(s.node.View())) })
	shared("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, s.node.Status(r.Context()))
	})
	shared("GET /v1/nodes", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, s.node.Status(r.Context()).Nodes)
	})
	shared("GET /v1/events", s.events)
	shared("GET /v1/logs", s.logs)
	shared("GET /v1/node/report", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.node.Report()) })
	shared("GET /v1/services/{name}/revisions", s.history)
	deploy("POST /v1/plan", s.plan)
	deploy("POST /v1/services", s.apply)
	deploy("POST /v1/services/{name}/rollback", s.rollBack)
	deploy("POST /v1/services/{name}/restart", s.restart)
	admin("POST /v1/nodes/{id}/drain", s.drainNode)
	admin("POST /v1/nodes/{id}/undrain", s.undrainNode)
	deploy("DELETE /v1/services/{name}", s.remove)
	deploy("POST /v1/services/{name}/scale", s.scale)
	admin("POST /v1/init", s.init)
	admin("POST /v1/join", s.join)
	admin("POST /v1/leave", s.leave)
	either("POST /v1/transfer", s.transfer)
	admin("DELETE /v1/nodes/{id}", s.removeNode)
	admin("GET /v1/snapshot", s.archive) // specs are in it
	shared("GET /v1/recover", s.recovery)
	admin("POST /v1/recover", s.recover)
	among("POST /v1/node/follow", s.follow)
	among("POST /v1/propose", s.propose)
	among("POST /v1/node/probe", s.probe)
	among("DELETE /v1/node/votes/{id}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.node.TakeVote(r.Context(), r.PathValue("id")))
	})
	among("POST /v1/suspect", s.suspect)
	among("GET /v1/node/table", s.table)
	s.trustRoutes(shared, admin, open)
	return m
}

// read decodes a JSON body strictly: one value, no key that is not known.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows after the JSON value")
			if long := (*http.MaxBytesError)(nil); errors.As(more, &long) {
				err = long
			}
		}
	}
	return badBody(err)
}

func badBody(err error) error {
	var long *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &long):
		return fmt.Errorf("%w: at most %d bytes are read; send less", ErrTooLarge, long.Limit)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the body is empty; send the JSON that docs/api.md shows for this path", ErrBad)
	}
	return fmt.Errorf("%w: body: %w; docs/api.md shows the JSON for this path", ErrBad, err)
}

func (s *Server) scale(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Count int `json:"count"` // 0 is automatic
	}
	if err := read(w, r, &body); err != nil {
		fail(w, err)
		return
	}
	s.write(w, r, fsm.ScaleByHand{Service: r.PathValue("name"), Count: body.Count, By: s.by(r)})
}

// proposed is what a command gave: the first turn, of TakeTurns alone.
type proposed struct {
	Turn *uint64 `json:"turn,omitempty"`
}

// propose is the leader's end of a forwarded command: it is never forwarded again.
func (s *Server) propose(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, fsm.MaxCommand))
	if err != nil {
		fail(w, badBody(err))
		return
	}
	_, c, err := fsm.Decode(data)
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", ErrBad, err))
		return
	}
	if err := mayPropose(s.identify(r), s.node.View(), c); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
	defer cancel()
	result, err := s.node.ProposeHere(ctx, c)
	if err != nil {
		fail(w, err)
		return
	}
	var out proposed
	if turn, ok := result.(uint64); ok {
		out.Turn = &turn
	}
	answer(w, http.StatusOK, out)
}

func number(r *http.Request, key string) (int, error) {
	text := r.URL.Query().Get(key)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s=%q: give a whole number from 0", ErrBad, key, text)
	}
	return n, nil
}
