package acts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// people says whether a user exists: here, or where another service has them.
type people interface {
	// known returns nil, or a refusal.
	known(ctx context.Context, name string) error
	elsewhere() bool
}

// here: the database asks in the transaction that adds the act.
type here struct{}

func (here) known(context.Context, string) error { return nil }
func (here) elsewhere() bool                     { return false }

// remote asks a users service.
type remote struct {
	url    string // of its list
	origin string // of this service, which the other may log
	http   *http.Client
}

const (
	// askTimeout bounds one question.
	askTimeout = 3 * time.Second
	// maxUsers bounds its answer, in bytes.
	maxUsers = 16 << 20
)

func newRemote(base, origin string) *remote {
	return &remote{
		url: strings.TrimSuffix(base, "/") + "/api/v1/users", origin: origin,
		http: &http.Client{Timeout: askTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second}},
	}
}

func (*remote) elsewhere() bool { return true }

func (p *remote) known(ctx context.Context, name string) error {
	names, err := p.ask(ctx)
	if err != nil {
		return refuse(http.StatusServiceUnavailable, "the users service does not answer; try again (%v)", plain(err))
	}
	if !slices.Contains(names, name) {
		return wrong("username: there is no %q", name)
	}
	return nil
}

// plain leaves the address out: it is inside.
func plain(err error) error {
	if e, ok := err.(*url.Error); ok {
		if e.Timeout() {
			return fmt.Errorf("no answer within %s", askTimeout)
		}
		return fmt.Errorf("it can not be reached")
	}
	return err
}

func (p *remote) ask(ctx context.Context) (names []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return nil, err
	}
	if p.origin != "" {
		req.Header.Set("Origin", p.origin)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil, nil
	case http.StatusOK:
		return names, json.NewDecoder(io.LimitReader(resp.Body, maxUsers)).Decode(&names)
	}
	return nil, fmt.Errorf("it answers %d", resp.StatusCode)
}
