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
	Init(ctx context.Context) (Admission, error)
	Join(ctx context.Context, addr string) (Admission, error)
	Leave(ctx context.Context) error
	Transfer(ctx context.Context, to string) error
}

// Self is what this node knows of itself and of the cluster.
type Self interface {
	Status(ctx context.Context) Status
	Report() Report
	Ready() error
	Logs(ctx context.Context, q LogQuery, w io.Writer) error
}

// Peer is what other nodes ask of this one.
type Peer interface {
	// Admit takes a node into the cluster; the leader's alone.
	Admit(ctx context.Context, n fsm.Node) (Admission, error)
	// Probe asks the health API of a container of this node, for a second opinion.
	Probe(ctx context.Context, r RowRef) error
	// Suspect has the leader probe a row at once. It does not block.
	Suspect(r RowRef)
}

// Node is all that the server asks of its node.
type Node interface {
	Table
	Writer
	Operator
	Self
	Peer
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
	node Node
	log  *slog.Logger
	http *http.Server
}

// NewServer returns a server; Run starts it.
func NewServer(node Node, log *slog.Logger) *Server {
	s := &Server{node: node, log: log}
	s.http = &http.Server{
		Handler:           noBrowsers(s.routes()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
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
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if r.Header.Get("Origin") != "" || host != socketHost && net.ParseIP(strings.Trim(host, "[]")) == nil {
			answer(w, http.StatusForbidden, map[string]*Error{"error": {"bad_request", "this API is not for web pages: ask it by its IP address, with orchctl or curl"}})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// socketHost stands for the node in requests over its unix socket.
const socketHost = "orchd"

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, struct{}{}) })
	m.HandleFunc("GET /-/ready", s.ready)
	m.HandleFunc("GET /v1/ps", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Rows(s.node.View())) })
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, s.node.Status(r.Context()))
	})
	m.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, s.node.Status(r.Context()).Nodes)
	})
	m.HandleFunc("GET /v1/events", s.events)
	m.HandleFunc("GET /v1/logs", s.logs)
	m.HandleFunc("POST /v1/services", s.apply)
	m.HandleFunc("DELETE /v1/services/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.write(w, r, fsm.RemoveService{Name: r.PathValue("name")})
	})
	m.HandleFunc("POST /v1/services/{name}/scale", s.scale)
	m.HandleFunc("POST /v1/init", s.init)
	m.HandleFunc("POST /v1/join", s.join)
	m.HandleFunc("POST /v1/leave", s.leave)
	m.HandleFunc("POST /v1/transfer", s.transfer)
	m.HandleFunc("POST /v1/propose", s.propose)
	m.HandleFunc("POST /v1/admit", s.admit)
	m.HandleFunc("GET /v1/node/report", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.node.Report()) })
	m.HandleFunc("POST /v1/node/probe", s.probe)
	m.HandleFunc("POST /v1/suspect", s.suspect)
	return m
}

// read decodes a JSON body strictly.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: body: %w", ErrBad, err)
	}
	return nil
}

// retry calls f until it finds a leader, for leaderWait at the most: an election is
// no reason to fail a command.
func retry(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	give := time.After(leaderWait)
	for {
		err := f(ctx)
		if !errors.Is(err, ErrNoLeader) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-give:
			return fmt.Errorf("%w was found within %s, so nothing was changed; the containers are served all the same: see `orchctl status` for the nodes that are missing, start them, and try again", ErrNoLeader, leaderWait)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, c fsm.Command) {
	err := retry(r.Context(), func(ctx context.Context) error {
		_, err := s.node.Propose(ctx, c)
		return err
	})
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	var spec fsm.Spec
	if err := read(w, r, &spec); err != nil {
		fail(w, err)
		return
	}
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		fail(w, err)
		return
	}
	s.write(w, r, fsm.PutService{Spec: spec})
}

func (s *Server) scale(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Count int `json:"count"` // 0 is automatic
	}
	if err := read(w, r, &body); err != nil {
		fail(w, err)
		return
	}
	s.write(w, r, fsm.ScaleByHand{Service: r.PathValue("name"), Count: body.Count})
}

// propose is the leader's end of a forwarded command: it is never forwarded again.
func (s *Server) propose(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, fsm.MaxCommand))
	if err != nil {
		fail(w, fmt.Errorf("%w: body: %w", ErrBad, err))
		return
	}
	_, c, err := fsm.Decode(data)
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", ErrBad, err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
	defer cancel()
	result, err := s.node.ProposeHere(ctx, c)
	if err != nil {
		fail(w, err)
		return
	}
	turn, _ := result.(uint64)
	answer(w, http.StatusOK, map[string]uint64{"turn": turn})
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
