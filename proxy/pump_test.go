package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBodyBehindTheAnswer: once the row answers, neither is held to the pace of the other.
func TestBodyBehindTheAnswer(t *testing.T) {
	pause := 200 * time.Millisecond
	cfg := Config{BodyTimeout: pause, MinBodyRate: 1000, MinBodyAfter: time.Second}
	for name, start := range map[string]func(*testing.T, Table) (url string, client *http.Client){
		"own": func(t *testing.T, table Table) (string, *http.Client) {
			tr := &http.Transport{}
			t.Cleanup(tr.CloseIdleConnections)
			return startLimited(t, cfg, table).url, &http.Client{Transport: tr, Timeout: patience}
		},
		"HTTP/2": func(t *testing.T, table Table) (string, *http.Client) {
			p, addr := startSecure(t, cfg, table)
			t.Cleanup(p.stop)
			return "https://" + addr, http2Client(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := make(chan struct{})
			url, client := start(t, patient(backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				<-heard
				for b := make([]byte, 1); ; {
					n, err := r.Body.Read(b)
					w.Write(b[:n])
					w.(http.Flusher).Flush()
					if err != nil {
						return
					}
				}
			})))
			body, sent := io.Pipe()
			go io.WriteString(sent, "a")
			resp, err := client.Post(url, "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			past := time.NewTimer(6 * pause) // the limits that must not hold here
			defer past.Stop()
			<-past.C
			close(heard)
			var got [3]byte
			for i, next := range []string{"b", "c", ""} {
				if _, err := io.ReadFull(resp.Body, got[i:i+1]); err != nil {
					t.Fatalf("%q, %v", got[:i], err)
				}
				io.WriteString(sent, next)
			}
			sent.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(got[:])+string(b) != "abc" {
				t.Errorf("%q and %q, %v", got, b, err)
			}
		})
	}
}

// small makes the buffers of a socket as small as they may be.
func small(_, _ string, raw syscall.RawConn) (err error) {
	if cerr := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 2<<10)
		}
	}); cerr != nil {
		return cerr
	}
	return err
}

// TestRowTakesNoMore: a row answers, keeps its connection, and takes no more of a body that
// the proxy has read to its end. The client gets all of the answer, and then the next one;
// nothing is held up by what the row leaves.
func TestRowTakesNoMore(t *testing.T) {
	const rest = 100 // bytes of the body that come with the head
	head := func(length int) string {
		h := fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nX: ", length)
		return h + strings.Repeat("x", inSizeStart-rest-len(h)-4) + "\r\n\r\n"
	}
	answer := noise(256 << 10)
	l, err := (&net.ListenConfig{Control: small}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	row := rowOn(t, l, 1, func(w *speaker) {
		if h := w.head(); strings.Contains(h, "\r\nContent-Length: 4\r\n") {
			w.hear("body")
			w.say(ok2)
			return
		}
		until(t, "the last of the body comes", func() bool { // it has been read by then
			n := 0
			sock(w.TCPConn).Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
			return n+w.in.Buffered() > rest || err != nil
		})
		w.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(answer)))
		w.Write(answer)
		<-ended
	})
	defer close(ended)
	p := startWith(t, Config{Node: "n1"}, &counter{}, patient(row), func(p *Proxy) { p.dialer.Control = small })
	c := call(t, p)
	body := noise(rest + copySize - 1)
	c.say(head(len(body)) + string(body))
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.Close {
		t.Fatalf("%+v, %v", resp, err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("%d bytes of %d came: %v", len(got), len(answer), err)
	}
	until(t, "the row is let go", func() bool { return len(p.InFlight()) == 0 })
	c.say(post)
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("%q", head)
	}
	c.hear("ok")
}
