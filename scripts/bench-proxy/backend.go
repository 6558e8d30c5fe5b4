package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// The backends answer as cheaply as a Go program can, so that the proxies are what is
// measured: they look for the end of a head, its path and its length, and nothing else.

// sizes of the answers by path; every other path has a small one.
var sizes = map[string]int{"/64k": 64 << 10, "/8m": 8 << 20}

const small = "the answer of a container, in forty-four B.\n"

// backend serves on each of addrs until ctx ends.
func backend(ctx context.Context, addrs []string) error {
	answers := map[string][]byte{"": answerOf([]byte(small))}
	for path, n := range sizes {
		answers[path] = answerOf(bytes.Repeat([]byte("x"), n))
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { l.Close() })
		g.Go(func() error {
			for {
				c, err := l.Accept()
				if err != nil {
					return nil
				}
				go answer(ctx, c, answers)
			}
		})
	}
	return g.Wait()
}

func answerOf(body []byte) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))
	return append([]byte(head), body...)
}

// answer serves one connection.
func answer(ctx context.Context, c net.Conn, answers map[string][]byte) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer c.Close()
	in := make([]byte, 64<<10)
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		end := bytes.Index(in[:have], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		path, length := head(in[:end+2])
		if rest := length - (have - end - 4); rest > 0 {
			if _, err := io.CopyN(io.Discard, c, int64(rest)); err != nil {
				return
			}
		}
		have = 0
		a, ok := answers[path]
		if !ok {
			a = answers[""]
		}
		if _, err := c.Write(a); err != nil {
			return
		}
	}
}

// head is the path of a request and the length of its body.
func head(b []byte) (path string, length int) {
	_, line, _ := bytes.Cut(b, []byte(" "))
	target, rest, _ := bytes.Cut(line, []byte(" "))
	const field = "\r\ncontent-length: "
	if target[0] == '/' && len(target) > 1 && target[1] == 'u' {
		if i := strings.Index(strings.ToLower(string(rest)), field); i >= 0 {
			value, _, _ := strings.Cut(string(rest[i+len(field):]), "\r\n")
			length, _ = strconv.Atoi(value) // a proxy has checked it
		}
	}
	return string(target), length
}

// idlers is how many connections park opens.
const idlers = 10_000

// park opens idle connections and holds them until ctx ends.
func park(ctx context.Context, addr string) error {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	var buf [4 << 10]byte
	for range idlers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Errorf("%d connections are open: %w", len(conns), err)
		}
		conns = append(conns, c)
		// Each has been served once: a connection that never spoke costs less.
		if _, err := io.WriteString(c, "GET /idle HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
			return err
		}
		if n, err := c.Read(buf[:]); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
			return errors.Join(fmt.Errorf("connection %d: %q", len(conns), buf[:n]), err)
		}
	}
	fmt.Println("parked")
	<-ctx.Done()
	return nil
}

// tricklers is how many connections trickle opens, tricklePause the time between two
// bytes of each: slow enough to cost an attacker nothing.
const (
	tricklers    = 1000
	tricklePause = 500 * time.Millisecond
)

// trickle sends heads that never end, a byte at a time, until ctx ends. One that is cut
// off is opened anew.
func trickle(ctx context.Context, addr string) error {
	conns := make([]net.Conn, tricklers)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	open := func(i int) (err error) {
		if conns[i], err = net.Dial("tcp", addr); err == nil {
			_, err = io.WriteString(conns[i], "GET /slow HTTP/1.1\r\nHost: bench\r\nX: ")
		}
		return err
	}
	for i := range conns {
		if err := open(i); err != nil {
			return err
		}
	}
	fmt.Println("slow")
	tick := time.NewTicker(tricklePause / 100)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for range tricklers / 100 {
			i = (i + 1) % tricklers
			if _, err := conns[i].Write([]byte("x")); err != nil {
				conns[i].Close()
				if err := open(i); err != nil {
					return err
				}
			}
		}
	}
}
