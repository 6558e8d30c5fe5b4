package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The verdicts of the prober over real TCP.
func TestProbe(t *testing.T) {
	block := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	mux.HandleFunc("/204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1<<12)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(block)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := free.Addr().String()
	free.Close()
	p := newProber(nil)
	defer p.close()
	addr := srv.Listener.Addr().String()
	for name, tc := range map[string]struct {
		addr, path, want      string
		answered, unconnected bool
	}{
		"healthy":     {addr, "/ok", "", false, false},
		"500":         {addr, "/500", "500", true, false},
		"only 200":    {addr, "/204", "204", true, false},
		"redirect":    {addr, "/moved", "302", true, false},
		"big body":    {addr, "/endless", "", false, false},
		"timeout":     {addr, "/slow", "timeout 200ms", false, false},
		"reset":       {addr, "/reset", "reset", false, false},
		"refused":     {closed, "/ok", "refused", false, true},
		"nowhere":     {"", "/ok", "no address to probe", false, true},
		"bad address": {"127.0.0.1:99999", "/ok", "address 99999: invalid port", false, true},
	} {
		err := p.probe(context.Background(), tc.addr, tc.path, 200*time.Millisecond)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		pe, ok := err.(*probeError)
		if !ok || pe.reason != tc.want || pe.answered != tc.answered || pe.unconnected != tc.unconnected {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

func TestProbeKeepsItsConnection(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":true}`) }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	p := newProber(nil)
	defer p.close()
	for range 20 {
		if err := p.probe(context.Background(), srv.Listener.Addr().String(), "/", time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 probes", n)
	}
}
