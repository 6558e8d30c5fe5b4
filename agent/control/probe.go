package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"orch/fsm"
)

// prober asks health APIs. Connections are kept: a poll a second must not cost a
// connection a second.
type prober struct{ client *http.Client }

func newProber() *prober {
	tr := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second, DisableCompression: true}
	return &prober{&http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *prober) close() { p.client.CloseIdleConnections() }

// errSilent means that nothing answered at all: the link may be bad rather than
// the container.
var errSilent = errors.New("no answer")

// maxHealthBody is what is read of an answer to keep its connection, in bytes.
const maxHealthBody = 4 << 10

// Probe asks the health API at addr once; nil is healthy.
func (p *prober) Probe(ctx context.Context, addr, path string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var ne net.Error
		switch {
		case errors.As(err, &ne) && ne.Timeout():
			return fmt.Errorf("%w within %s", errSilent, timeout)
		default:
			return fmt.Errorf("%w: %s", errSilent, brief(err))
		}
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthBody))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health answered %d", resp.StatusCode)
	}
	return nil
}

// brief is the cause of a failed request without its URL.
func brief(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// Probe asks the health API of a row of this node, for a leader's second opinion.
func (c *Control) Probe(ctx context.Context, row fsm.Container) error {
	view := c.views.View()
	sv, ok := view.Service(row.Service)
	if !ok {
		return fsm.ErrNoSuchService
	}
	return c.prober.Probe(ctx, c.cfg.DialAddr(view, row), sv.Spec.Health.Path, time.Duration(sv.Spec.Health.Timeout))
}
