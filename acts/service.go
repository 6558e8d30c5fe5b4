// Package acts is SelfieLessActs: people share photos of good deeds they see.
//
// It owns the HTTP API of users, categories and acts, its page, and the database and
// the photos behind them. It promises read-your-writes across all processes that share
// a database, that a crashed process answers 500 to everything, and bounded memory:
// what is larger than 64 KiB waits on disk while a client sends or reads it, but for some
// thumbnails and pages with a limit over all of them; it costs memory from its decoding
// until it is stored, or while the database hands it out, a few at a time, and photos are
// decoded for thumbnails one at a time; small photos, pages and thumbnails are kept in a
// cache with a limit. It imports nothing of ours and knows nothing of who runs it.
package acts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// What a process serves.
const (
	ServeAll   = "all"
	ServeUsers = "users" // the users API alone
	ServeActs  = "acts"  // everything else; the users are asked for elsewhere
)

// Config of the service. Fields bear the names of the flags.
type Config struct {
	Listen   string // host:port
	Metrics  string // host:port of Prometheus metrics; empty for none
	Data     string // folder: the SQLite database, photos, bodies on their way
	Database string // DSN of PostgreSQL; empty for SQLite in Data. It is a secret
	Photos   string // file:///FOLDER or s3://BUCKET; empty for a folder in Data
	Serve    string // all, users or acts; empty: acts where UsersURL is given, else all
	UsersURL string // base URL of the users service, for acts
	Origin   string // this service's public address, told to the users service; empty: the one that a request came to
	Strict   bool   // refuse photos that are no image
	MaxPhoto int    // of a photo that is taken, in MiB decoded
	Logger   *slog.Logger
}

// Validate names each flag that is wrong.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("--listen %q: write it as HOST:PORT or :PORT", c.Listen)
	}
	if _, _, err := net.SplitHostPort(c.Metrics); c.Metrics != "" && err != nil {
		bad("--metrics %q: write it as HOST:PORT or :PORT", c.Metrics)
	}
	if info, err := os.Stat(c.Data); err != nil || !info.IsDir() {
		bad("--data %q: name a folder that exists and can be written to", c.Data)
	}
	switch c.Serve {
	case ServeAll, ServeUsers:
		if c.UsersURL != "" {
			bad("--users-url %q: the users are served here; leave it out, or give --serve acts", c.UsersURL)
		}
	case ServeActs:
		if u, err := url.Parse(c.UsersURL); err != nil || !web(u) || u.RawQuery != "" || u.Fragment != "" {
			bad("--users-url %q: --serve acts needs the users service: give http://HOST[:PORT]", c.UsersURL)
		}
	default:
		bad("--serve %q: choose all, users or acts", c.Serve)
	}
	if c.MaxPhoto < 1 || c.MaxPhoto > mostPhoto {
		bad("--max-photo %d: give a whole number of MiB from 1 to %d", c.MaxPhoto, mostPhoto)
	}
	if u, err := url.Parse(c.Origin); c.Origin != "" && (err != nil || !web(u) || u.Scheme+"://"+u.Host != c.Origin) {
		bad("--origin %q: give the public address as http://HOST[:PORT] and nothing after it", c.Origin)
	}
	return errors.Join(errs...)
}

func web(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// serves is what the process serves, said or meant.
func (c Config) serves() string {
	if c.Serve == "" && c.UsersURL != "" {
		return ServeActs
	}
	return cmp.Or(c.Serve, ServeAll)
}

// DefaultMaxPhoto is the largest photo that is taken where nothing else is said, in MiB.
const DefaultMaxPhoto = 10

// mostPhoto is the largest limit that may be given, in MiB: one body of it and its photo,
// 150 MB, are decoded at a time.
const mostPhoto = 64

// bodyOf is the largest body for photos of so many bytes: base64, in which some write each
// / as \/ (one of 64 characters; twice that is borne), and the other fields.
func bodyOf(photo int64) int64 { return photo*4/3 + photo/24 + 64<<10 }

// Limits of the service.
const (
	healthTimeout   = 500 * time.Millisecond
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 8 * time.Second // for requests in flight when the process is told to end
	cutTimeout      = time.Second     // for the handlers of those that were cut off then
	pageLimit       = 100             // acts listed at once
)

// Service answers the API.
type Service struct {
	store   store
	counter counter
	photos  *photos
	people  people
	origin  string // of this service; empty: the one that a request came to
	strict  bool
	spool   string // folder of bodies on their way

	maxPhoto int64 // bytes, decoded
	maxBody  int64 // bytes

	idleBody   time.Duration
	firstSweep time.Duration
	grace      time.Duration

	inside   *semaphore.Weighted // requests being answered, a place each
	checking singleflight.Group
	folders  []string // that must have room
	room     func(folder string, photo int64) error

	decoding  *semaphore.Weighted // bytes of large bodies being decoded and stored
	shrinking chan struct{}       // thumbnails being made
	lent      *semaphore.Weighted // bytes in memory that clients are reading
	aside     *semaphore.Weighted // bytes on disk that clients are reading, of thumbnails and pages
	lists     *semaphore.Weighted // and of lists
	listing   *semaphore.Weighted // answers being made from the database

	assets  map[string]asset // the page
	crashed atomic.Bool
	log     *slog.Logger
	mux     *mux
	metrics *metrics
}

// open opens what a process works on.
func open(ctx context.Context, c Config) (_ *Service, err error) {
	photo := int64(c.MaxPhoto) << 20
	s := &Service{
		maxPhoto: photo, maxBody: bodyOf(photo), decoding: semaphore.NewWeighted(max(maxDecoding, decodingCost*bodyOf(photo))),
		log: c.Logger, strict: c.Strict, origin: c.Origin, people: here{}, room: room, metrics: newMetrics(),
		idleBody: idleBody, firstSweep: firstSweep, grace: shutdownTimeout,
		inside: semaphore.NewWeighted(everyone), listing: semaphore.NewWeighted(listing), shrinking: make(chan struct{}, 1), lent: semaphore.NewWeighted(maxLent), aside: semaphore.NewWeighted(maxAside), lists: semaphore.NewWeighted(maxLists),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.spool = filepath.Join(c.Data, "uploads")
	if err := os.MkdirAll(s.spool, 0o700); err != nil {
		return nil, fmt.Errorf("--data %q: %w", c.Data, err)
	}
	if c.Database != "" {
		db, err := openPostgres(ctx, c.Database)
		if err != nil {
			return nil, err
		}
		s.store = db
		counter, err := openPostgresCounter(ctx, db)
		if err != nil {
			return nil, err
		}
		s.counter = counter
	} else {
		db, err := openSQLite(ctx, c.Data)
		if err != nil {
			return nil, err
		}
		s.store = db
		counter, err := openFileCounter(filepath.Join(c.Data, "count"))
		if err != nil {
			return nil, err
		}
		s.counter = counter
	}
	at := c.Photos
	if at == "" {
		abs, err := filepath.Abs(filepath.Join(c.Data, "photos"))
		if err != nil {
			return nil, err
		}
		at = "file://" + abs
	}
	below, err := s.store.name(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the database's name: %w", err)
	}
	if s.photos, err = openPhotos(ctx, at, below); err != nil {
		return nil, err
	}
	if c.UsersURL != "" {
		s.people = newRemote(c.UsersURL)
	}
	s.folders = []string{c.Data}
	if s.photos.dir != "" {
		s.folders = append(s.folders, s.photos.dir)
	}
	s.mux = s.routes(c.serves())
	return s, nil
}

// Close lets go of everything; what was never opened is skipped.
func (s *Service) Close() error {
	var errs []error
	if r, ok := s.people.(*remote); ok {
		r.http.CloseIdleConnections()
	}
	if s.counter != nil { // before the store, into which it may write
		errs = append(errs, s.counter.Close())
	}
	if s.photos != nil {
		errs = append(errs, s.photos.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends, then lets requests in flight finish.
func Run(ctx context.Context, c Config) error {
	c.Serve = c.serves()
	if err := c.Validate(); err != nil {
		return err
	}
	s, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		if err := s.Close(); err != nil { // all has been answered: a database that is gone is no failure of ours
			s.log.Error("not closed as it should be", "reason", err)
		}
	}()
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	var watched net.Listener
	if c.Metrics != "" {
		if watched, err = net.Listen("tcp", c.Metrics); err != nil {
			return errors.Join(fmt.Errorf("--metrics: %w", err), l.Close())
		}
	}
	c.Logger.Info("acts serves", "addr", l.Addr().String(), "data", c.Data, "what", c.Serve)
	return s.run(ctx, l, watched)
}

// run has the loops of the service; it returns when all of them have.
func (s *Service) run(ctx context.Context, l, watched net.Listener) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.sweeps(ctx) })
	if watched != nil {
		g.Go(func() error { return s.metrics.serve(background, watched) })
	}
	g.Go(func() error {
		defer stop()
		return s.serveUntil(ctx, l)
	})
	return g.Wait()
}

// everyone is the places in Service.inside: more than a machine has connections.
const everyone = 1 << 30

// serveUntil ends with ctx, after the requests in flight. One that takes longer than is
// borne is cut off: that is no fault of this process.
func (s *Service) serveUntil(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 0, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of clients; a panic of ours has been logged before
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	err := server.Shutdown(end)
	if err != nil {
		s.log.Warn("requests in flight are cut off", "after", s.grace.String(), "reason", err)
		server.Close() // which ends their contexts too
	}
	<-ended
	end, cancel = context.WithTimeout(context.WithoutCancel(ctx), cutTimeout)
	defer cancel()
	if err := s.inside.Acquire(end, everyone); err != nil { // the database and the count are closed under them
		s.log.Warn("requests that were cut off have not ended", "after", cutTimeout.String())
	}
	return nil
}
