package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// maxHealthBody is what is read of an answer to keep its connection, in bytes.
const maxHealthBody = 4 << 10

// probeError is why a probe failed, in the few words that fit a column.
type probeError struct {
	reason string
	// answered: the container itself said that it is not healthy.
	answered bool
	// unconnected: there was no connection, so the link may be bad instead.
	unconnected bool
}

func (e *probeError) Error() string { return e.reason }

// prober asks health APIs. Connections are kept: a probe a second must not cost a
// connection a second.
type prober struct{ client *http.Client }

func newProber(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *prober {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	marked := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
	return &prober{&http.Client{
		Transport: &http.Transport{
			DialContext: marked, MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second,
			DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// dialError marks what failed before there was a connection.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func (p *prober) close() { p.client.CloseIdleConnections() }

// probe asks the health API at addr once; nil is healthy, else a *probeError. Only
// a 200 within timeout is healthy; redirects are not followed.
func (p *prober) probe(ctx context.Context, addr, path string, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, "http://"+addr+path, nil)
	if err != nil || addr == "" {
		return &probeError{reason: "no address to probe", unconnected: true}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var dial *dialError
		if errors.As(err, &dial) {
			return &probeError{reason: brief(err, min(timeout, dialTimeout)), unconnected: true}
		}
		return &probeError{reason: brief(err, timeout)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &probeError{reason: fmt.Sprint(resp.StatusCode), answered: true}
	}
	// The verdict is in the head; the body is read so that the connection lives on.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthBody))
	return nil
}

func brief(err error, timeout time.Duration) string {
	var ne net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return "timeout " + timeout.String()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}
