package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHalfClose: a client that sends and closes its side in one go is answered and sees
// the end of the connection, soon and not only when an idle connection would end.
func TestHalfClose(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })))
	for range 50 {
		for sent, want := range map[string]string{
			"GET / HTTP/1.1\r\nHost: h\r\n\r\n":                                       "hello",
			"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HT":                               "hello",
			"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc":              "400 Bad Request",
			"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab": "400 Bad Request",
			"GET / HT": "",
			"":         "",
		} {
			c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(c, sent)
			c.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(c)
			c.Close()
			if err != nil || !strings.Contains(string(got), want) {
				t.Fatalf("%q: %q, %v", sent, got, err)
			}
		}
	}
}

// TestBodyBehindALongHead: what came with a head that made the buffer grow is not lost.
func TestBodyBehindALongHead(t *testing.T) {
	bodies := make(chan string, 2)
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- string(b)
	})))
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var req, want bytes.Buffer
	fmt.Fprintf(&req, "POST / HTTP/1.1\r\nHost: h\r\nX: %s\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("x", 40<<10))
	for i := range 4096 {
		fmt.Fprintf(&want, "%016d", i)
		fmt.Fprintf(&req, "10\r\n%016d\r\n", i)
	}
	req.WriteString("0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	go c.Write(req.Bytes())
	got, err := io.ReadAll(c)
	if err != nil || strings.Count(string(got), " 200 OK") != 2 {
		t.Fatalf("%q, %v", got, err)
	}
	if b := <-bodies; b != want.String() {
		t.Errorf("%d bytes arrived of %d", len(b), want.Len())
	}
}
