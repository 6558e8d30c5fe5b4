package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// The tests in this file are of the end of a node: what it has received is answered.

const post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"

// hasEnded says whether the other side has ended the connection, with nothing before it.
func hasEnded(t *testing.T, c net.Conn) bool {
	t.Helper()
	ended := false
	var b [1]byte
	if err := sock(c).Control(func(fd uintptr) {
		n, err := recv(fd, b[:], syscall.MSG_PEEK)
		ended = n == 0 && err == 0
	}); err != nil {
		t.Error(err)
	}
	return ended
}

// TestNodeEndsUnderLoad: of clients that send one request after the other none loses any:
// the last answer says that it is the last.
func TestNodeEndsUnderLoad(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, rows(t, 3)...))
	var answered atomic.Int64
	var clients sync.WaitGroup
	for range 64 {
		c := call(t, p)
		clients.Go(func() {
			last := time.Now()
			for n := 1; !hasEnded(t, c.TCPConn); n++ {
				c.say(post)
				gap := time.Since(last)
				resp, err := http.ReadResponse(c.in, nil)
				if err != nil && gap >= lastCall-sweepInterval {
					return // this machine has kept it from asking for longer than is waited for
				}
				if err != nil {
					t.Errorf("request %d of a connection: %v", n, err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Errorf("request %d of a connection: %s, %v", n, resp.Status, err)
					return
				}
				answered.Add(1)
				last = time.Now()
				if resp.Close {
					c.ended()
					return
				}
			}
		})
	}
	reach(t, &answered, 300)
	p.stop()
	clients.Wait()
}

// TestRequestBehindTheLastAnswer: a client that was not told that its connection ends may
// send another request, and gets its answer, also when the end begins in between.
func TestRequestBehindTheLastAnswer(t *testing.T) {
	end := make(chan struct{})
	p := startLimited(t, Config{DrainTimeout: patience}, patient(rowBy(t, 1, func(w *speaker) {
		for head := w.head(); head != ""; head = w.head() {
			if strings.HasPrefix(head, "POST") {
				w.hear("body")
				w.say(ok2)
				continue
			}
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
			<-end
			w.say("0\r\n\r\n")
		}
	})))
	c := call(t, p)
	c.say(get)
	if head := c.head(); strings.Contains(head, "Connection: close") {
		t.Fatalf("%q", head)
	}
	c.hear("2\r\nhi\r\n")
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	until(t, "it drains", p.clients.stopping.Load)
	c.say(post)
	close(end)
	c.hear("0\r\n\r\n")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
		t.Errorf("%q", head)
	}
	c.hear("ok")
	c.ended()
	c.Close()
	await(t, stopped, "the end")
}

// TestQueueOfTheListener: connections that the kernel has made, and nobody has accepted
// when the node ends, are served, with TLS or without.
func TestQueueOfTheListener(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %t", secure), func(t *testing.T) {
			l, err := Listen(t.Context(), "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			if secure {
				cert, key := certify(t, t.TempDir(), 1)
				if l, err = Secure(l, cert, key); err != nil {
					t.Fatal(err)
				}
			}
			p := New(Config{Node: "n1", DrainTimeout: patience}, node{&counter{}, "n1"}, &heard{})
			p.SetTable(acts(1, backend(t, 1, nil)))
			var clients sync.WaitGroup
			for range 20 {
				tcp, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer tcp.Close()
				tcp.SetDeadline(time.Now().Add(patience))
				c := tcp
				if secure {
					c = tls.Client(tcp, &tls.Config{InsecureSkipVerify: true})
				} else {
					io.WriteString(c, post)
				}
				clients.Go(func() {
					if secure {
						io.WriteString(c, post) // after a handshake
					}
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("%+v, %v", resp, err)
					}
					c.Close()
				})
			}
			if !secure {
				silent, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Close()
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			if err := p.Run(ctx, l); err != nil {
				t.Error(err)
			}
			clients.Wait()
			if took := time.Since(began); took > patience/2 {
				t.Errorf("who sends nothing keeps the node for %s", took)
			}
		})
	}
}

// TestLastLook: a connection whose wait is ended from outside does not end over a request
// that has come; and ends where none has.
func TestLastLook(t *testing.T) {
	cert, key := certify(t, t.TempDir(), 1)
	for _, secure := range []bool{false, true} {
		for name, end := range map[string]func(*client){
			"the node ends": func(c *client) {
				c.proxy.clients.stopping.Store(true)
				if c.interrupted(); c.ended || c.look.Load() == 0 {
					t.Error("it ends as soon as it has been used, or is not looked at again")
				}
				c.proxy.clients.now.Add(lastCall.Milliseconds() + 1)
			},
			"its time is over": func(c *client) { c.due.Store(overdue) },
		} {
			for _, comes := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, tls %t, a request %t", name, secure, comes), func(t *testing.T) {
					l, err := Listen(t.Context(), "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					far, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer far.Close()
					far.SetDeadline(time.Now().Add(patience))
					if secure {
						if l, err = Secure(l, cert, key); err != nil {
							t.Fatal(err)
						}
						far = tls.Client(far, &tls.Config{InsecureSkipVerify: true})
					}
					conn, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					p := New(Config{Node: "n1"}, node{&counter{}, "n1"}, &heard{}) // without Run, its clock stands still
					p.SetTable(acts(1, backend(t, 1, nil)))
					p.routing.Load().services["acts"].turns.spare.Store(&run{end: 1, half: 1})
					defer p.transport.CloseIdleConnections()
					c := &client{proxy: p, ctx: t.Context(), conn: conn}
					if s, ok := conn.(*tlsConn); ok {
						c.sock = sock(s.under.Conn)
						shaken := make(chan error, 1)
						go func() { shaken <- far.(*tls.Conn).Handshake() }()
						if err := s.Handshake(); err != nil {
							t.Fatal(err)
						}
						if err := await(t, shaken, "the handshake"); err != nil {
							t.Fatal(err)
						}
					} else {
						c.sock = sock(conn)
						c.raw = c.sock
					}
					c.idle()
					if comes {
						io.WriteString(far, strings.Replace(post, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
						until(t, "it is there", c.came)
					}
					end(c)
					conn.SetDeadline(longAgo)
					c.interrupted()
					if c.ended == comes {
						t.Fatalf("the connection ends: %t", c.ended)
					}
					if !comes {
						return
					}
					served := make(chan struct{})
					go func() { c.serve(); close(served) }()
					resp, err := http.ReadResponse(bufio.NewReader(far), nil)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("%+v, %v", resp, err)
					}
					await(t, served, "the end")
					for _, u := range p.pool {
						u.idle.close()
					}
				})
			}
		}
	}
}

// TestHandshakeAtTheEnd: a connection that has been accepted is served, if its handshake
// comes; who sends nothing does not keep the node.
func TestHandshakeAtTheEnd(t *testing.T) {
	for _, silent := range []bool{false, true} {
		p, addr := startSecure(t, Config{DrainTimeout: patience}, acts(1, backend(t, 1, nil)))
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		until(t, "it is accepted", func() bool {
			n := 0
			p.clients.each(func(*client) { n++ })
			return n == 1
		})
		stopped := make(chan struct{})
		began := time.Now()
		go func() { p.stop(); close(stopped) }()
		until(t, "it drains", p.clients.stopping.Load)
		if !silent {
			s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			io.WriteString(s, post)
			resp, err := http.ReadResponse(bufio.NewReader(s), nil)
			if err != nil || resp.StatusCode != 200 || !resp.Close {
				t.Errorf("%+v, %v", resp, err)
			}
			s.Close()
		}
		await(t, stopped, "the end")
		if took := time.Since(began); took > patience/2 {
			t.Errorf("silent %t: the end took %s", silent, took)
		}
	}
}

// TestHTTP2ComesTooLate: a connection for which net/http takes no other any more is told
// that none of its requests was taken.
func TestHTTP2ComesTooLate(t *testing.T) {
	cert, key := certify(t, t.TempDir(), 1)
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	secure, err := Secure(l, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{Node: "n1"}, node{&counter{}, "n1"}, &heard{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := secure.Accept()
		if err != nil {
			return
		}
		closed := newHandover()
		closed.Close()
		p.converse(context.WithoutCancel(t.Context()), conn, closed)
	}()
	f := speak(t, l.Addr().String(), 1<<16)
	f.ask(true, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "h")
	if frame, err := f.ReadFrame(); err != nil || frame.Header().Type != http2.FrameSettings {
		t.Errorf("first comes %v, %v", frame, err)
	}
	frame, err := f.ReadFrame()
	if away, ok := frame.(*http2.GoAwayFrame); !ok || away.LastStreamID != 0 || away.ErrCode != http2.ErrCodeNo {
		t.Errorf("then comes %v, %v", frame, err)
	}
	if frame, err := f.ReadFrame(); err != io.EOF {
		t.Errorf("at the end comes %v, %v", frame, err)
	}
	f.conn.Close()
	await(t, served, "the end")
}

// TestLongLastAnswer: what of a last answer is still on its way when the proxy has written
// all of it arrives, also where the client has sent more than is read.
func TestLongLastAnswer(t *testing.T) {
	body := noise(2 << 20)
	for name, c := range map[string]struct{ sent, more string }{
		"the node ends":              {get, get},
		"the client ends, with more": {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\r\n", "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			p := startLimited(t, Config{DrainTimeout: patience}, patient(backend(t, 1, func(w http.ResponseWriter, _ *http.Request) {
				entered <- struct{}{}
				<-release
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.Write(body)
			})))
			w := call(t, p)
			w.say(c.sent)
			await(t, entered, "the request")
			if c.sent == get {
				go p.stop()
				until(t, "it drains", p.clients.stopping.Load)
			}
			w.say(c.more)
			close(release)
			resp, err := http.ReadResponse(w.in, nil)
			if err != nil || !resp.Close {
				t.Fatalf("%+v, %v", resp, err)
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			var got bytes.Buffer
			for err == nil { // slower than it can be sent
				_, err = io.CopyN(&got, resp.Body, 64<<10)
				<-tick.C
			}
			if err != io.EOF || !bytes.Equal(got.Bytes(), body) {
				t.Errorf("%d bytes came of %d: %v", got.Len(), len(body), err)
			}
			w.Close()
		})
	}
}
