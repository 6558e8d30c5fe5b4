// Package acts is SelfieLessActs: people share photos of good deeds they see.
//
// It owns the HTTP API of users, categories and acts, and the store behind it. It
// promises read-your-writes across all processes that share a folder, and that a
// crashed process answers 500 to everything. It imports nothing of ours and knows
// nothing of who runs it.
package acts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Config of the service.
type Config struct {
	Listen string // host:port
	Data   string // folder shared by the processes of one machine
	Logger *slog.Logger
}

// Validate names each flag that is wrong.
func (c Config) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("--listen %q: write it as HOST:PORT or :PORT", c.Listen))
	}
	if info, err := os.Stat(c.Data); err != nil || !info.IsDir() {
		errs = append(errs, fmt.Errorf("--data %q: name a folder that exists and can be written to", c.Data))
	}
	return errors.Join(errs...)
}

// Limits of the service.
const (
	maxPhoto        = 10 << 20              // bytes, decoded
	maxBody         = maxPhoto*4/3 + 64<<10 // base64 and the other fields
	healthTimeout   = 500 * time.Millisecond
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 8 * time.Second
	pageLimit       = 100 // acts listed at once
)

// Service answers the API.
type Service struct {
	store   *store
	counter *counter
	crashed atomic.Bool
	log     *slog.Logger
	mux     *mux
}

// Run serves until ctx ends, then lets requests in flight finish.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	s := &Service{log: c.Logger}
	if s.store, err = openStore(ctx, c.Data); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.store.Close()) }()
	if s.counter, err = openCounter(filepath.Join(c.Data, "count")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.counter.Close()) }()
	s.mux = s.routes()
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	c.Logger.Info("acts serves", "addr", l.Addr().String(), "data", c.Data)
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(end)
	<-ended
	return err
}
