package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// echoes is a row that echoes messages until its client closes, and tells how. A message
// "leave" makes it close first.
func echoes(t *testing.T, closed chan<- error) Row {
	return backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			closed <- err
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for {
			kind, b, err := c.Read(ctx)
			switch {
			case err != nil:
				closed <- err
				return
			case string(b) == "leave":
				closed <- c.Close(4001, "the row leaves")
				return
			}
			if err := c.Write(ctx, kind, b); err != nil {
				closed <- err
				return
			}
		}
	})
}

// TestWebSocketConversation between a real client and a real server: text, binary, ping,
// and a close from either side, with its code and reason.
func TestWebSocketConversation(t *testing.T) {
	both(t, func(t *testing.T) {
		closed := make(chan error, 1)
		p := startLimited(t, Config{}, patient(echoes(t, closed)))
		converseByWebSocket(t, strings.Replace(p.url, "http", "ws", 1), closed)
	})
	t.Run("tls", func(t *testing.T) {
		closed := make(chan error, 1)
		addr := startTLS(t, t.TempDir(), patient(echoes(t, closed)))
		converseByWebSocket(t, "wss://"+addr, closed)
	})
}

func converseByWebSocket(t *testing.T, url string, closed <-chan error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	dial := func() *websocket.Conn {
		c, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		c.SetReadLimit(1 << 20)
		return c
	}
	c := dial()
	for kind, message := range map[websocket.MessageType][]byte{websocket.MessageText: []byte("hello"), websocket.MessageBinary: noise(300_000)} {
		if err := c.Write(ctx, kind, message); err != nil {
			t.Fatal(err)
		}
		if k, b, err := c.Read(ctx); err != nil || k != kind || !bytes.Equal(b, message) {
			t.Fatalf("%v of %d bytes came back as %v of %d, %v", kind, len(message), k, len(b), err)
		}
	}
	reading := make(chan error, 1)
	go func() {
		_, _, err := c.Read(ctx)
		reading <- err
	}()
	if err := c.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("leave")); err != nil {
		t.Fatal(err)
	}
	var e websocket.CloseError
	if err := await(t, reading, "the row's close"); !errors.As(err, &e) || e.Code != 4001 || e.Reason != "the row leaves" {
		t.Errorf("the row left with %v", err)
	}
	if err := await(t, closed, "the row's end"); err != nil {
		t.Errorf("the row closes: %v", err)
	}
	c = dial()
	if err := c.Close(4002, "the client leaves"); err != nil {
		t.Errorf("the client closes: %v", err)
	}
	if err := await(t, closed, "the row's end"); !errors.As(err, &e) || e.Code != 4002 || e.Reason != "the client leaves" {
		t.Errorf("the client left with %v", err)
	}
}

// TestWebSocketHoldsItsRow: a row that drains is not released while one is open on it; no
// other request goes there meanwhile.
func TestWebSocketHoldsItsRow(t *testing.T) { both(t, testWebSocketHoldsItsRow) }

func testWebSocketHoldsItsRow(t *testing.T) {
	closed := make(chan error, 1)
	row := echoes(t, closed)
	p := startLimited(t, Config{}, patient(row))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, strings.Replace(p.url, "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	row.Draining = true
	p.SetTable(patient(row, backend(t, 2, nil)))
	for _, want := range []string{"a", "b", "c"} {
		if _, body := do(t, "GET", p.url+"/", ""); body != "2" {
			t.Errorf("row %s answers", body)
		}
		if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != want {
			t.Fatalf("%q, %v", b, err)
		}
		if load := p.InFlight(); !slices.Contains(load, RowLoad{"acts", 1, 1, 1}) {
			t.Errorf("in flight: %+v", load)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	await(t, closed, "the row's end")
	until(t, "the row is released", func() bool { return len(p.InFlight()) == 0 })
}
