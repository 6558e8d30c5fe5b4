package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
)

// defaultSocket is where an installed orchd listens.
const defaultSocket = "/run/orchd/orchd.sock"

// client finds the node to ask, and what to show it.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	if a.addr == "" {
		a.addr = os.Getenv("ORCH_ADDR")
	}
	if a.context == "" {
		a.context = os.Getenv("ORCH_CONTEXT")
	}
	switch {
	case strings.Contains(a.addr, "/"):
		return api.NewClient(a.addr, nil), nil
	case a.addr != "":
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return nil, fmt.Errorf("address %q (--addr or $ORCH_ADDR): give HOST:PORT of a node's API, for example 127.0.0.1:7480, or the path of its socket with a / in it", a.addr)
		}
		b, err := loadContext(a.context)
		if err != nil {
			return nil, err
		}
		a.by = b
		return b.client(a.addr)
	case a.context != "":
		return a.byContext(ctx, a.context)
	}
	if c, err := localNode(ctx); c != nil || err != nil {
		return c, err
	}
	if name, err := currentContext(); err == nil && name != "" {
		return a.byContext(ctx, name)
	}
	return nil, errors.New("no orchd answers here: start one ('make up', or 'systemctl start orchd'), name a node with --addr or $ORCH_ADDR, or log in to a cluster elsewhere with 'orchctl login BUNDLE'")
}

// localNode is the first of this machine's sockets that answers, or nil.
func localNode(ctx context.Context) (*api.Client, error) {
	found, err := filepath.Glob("run/node*/orchd.sock")
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	for _, path := range append([]string{defaultSocket}, found...) {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		c := api.NewClient(path, nil)
		err := healthy(ctx, c)
		if err == nil {
			return c, nil
		}
		c.Close()
	}
	return nil, nil
}

func healthy(ctx context.Context, c *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.Healthy(ctx)
}

// byContext is the first node of a context's cluster that answers.
func (a *app) byContext(ctx context.Context, name string) (*api.Client, error) {
	b, err := loadContext(name)
	if err != nil {
		return nil, err
	}
	var last error
	for _, addr := range b.Addrs {
		c, err := b.client(addr)
		if err != nil {
			return nil, err
		}
		if last = healthy(ctx, c); last == nil {
			a.by = b
			return c, nil
		}
		c.Close()
	}
	return nil, fmt.Errorf("no node of context %q answers: %w", b.context, last)
}

// credentials are what the bundle holds, if its parts fit.
func (b *bundle) credentials() (*pki.Credentials, error) {
	key, err := pki.DecodeKey(b.Key)
	if err != nil {
		return nil, err
	}
	certs, err := pki.DecodeCerts(b.Certificate)
	if err != nil {
		return nil, err
	}
	cas, err := pki.DecodeCerts(b.Authorities)
	if err != nil {
		return nil, err
	}
	return pki.Credentials{Cluster: b.ClusterID, Key: key, Cert: certs[0], CAs: cas}.Complete()
}

// client speaks to a node of the cluster by the bundle's certificate.
func (b *bundle) client(addr string) (*api.Client, error) {
	creds, err := b.credentials()
	if err != nil {
		return nil, fmt.Errorf("context %q: %w: log in again with 'orchctl login BUNDLE'", b.context, err)
	}
	if end := creds.Cert.NotAfter; time.Now().After(end) {
		return nil, fmt.Errorf("context %q: its certificate ended at %s: an admin makes a new bundle with 'orchctl grant %s --role %s'", b.context, end.Format(time.DateTime), b.Name, b.Role)
	}
	var live pki.Live
	live.Set(creds)
	conns, tls := pki.NewConns(), live.Client("", nil)
	return api.NewClient(addr, &http.Transport{IdleConnTimeout: time.Second, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		c, err := conns.Dial(ctx, addr, tls)
		if errors.Is(err, pki.ErrUntrusted) {
			err = fmt.Errorf("%w (if the CA of the cluster was rotated since, an admin makes a new bundle with 'orchctl grant %s --role %s')", err, b.Name, b.Role)
		}
		if err != nil {
			return nil, err
		}
		b.settle(creds, c.ConnectionState().PeerCertificates[0])
		return c, nil
	}}), nil
}
