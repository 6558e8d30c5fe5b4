package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// accept serves the connections of a listener until ctx ends, and those that wait in its
// queue by then. Connections that speak HTTP/2 are handed over. last is called when no
// other connection will come.
func (p *Proxy) accept(ctx, cut context.Context, l net.Listener, http2 *handover, last func()) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer last()
	take := func(conn net.Conn) {
		p.metrics.accepted.Add(1)
		if int(p.metrics.conns.Add(1)) > p.cfg.MaxConns {
			p.metrics.conns.Add(-1)
			p.metrics.met(limitConns)
			turnAway(conn)
			return
		}
		serving.Go(func() {
			defer p.metrics.conns.Add(-1)
			p.converse(cut, conn, http2)
		})
	}
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			take(conn)
		case ctx.Err() != nil:
			acceptRest(l, take)
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			p.cfg.Logger.Warn("a connection was not accepted", "reason", err)
			select { // out of descriptors: some will end
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
}

const (
	// acceptPause is the wait after a failed accept.
	acceptPause = 20 * time.Millisecond
	// acceptRestTime bounds the accepting of what has connected when the node ends, where
	// others never stop to come.
	acceptRestTime = 500 * time.Millisecond
)

// acceptRest takes the connections that the kernel has made, and closes the listener. To
// close it before would reset them, and the requests that they have sent.
func acceptRest(l net.Listener, take func(net.Conn)) {
	defer l.Close() // may be closed already
	end := time.Now().Add(acceptRestTime)
	for time.Now().Before(end) && acceptUntil(l, end) && oneWaits(l) {
		conn, err := l.Accept()
		switch {
		case err == nil:
			take(conn)
		case errors.Is(err, os.ErrDeadlineExceeded): // endAccept came between, or it is over
		default: // out of descriptors: those that end now give some back
			<-time.After(acceptPause)
		}
	}
}

// endAccept makes the accept at hand fail, without a loss where the listener can do that.
func endAccept(l net.Listener) {
	if !acceptUntil(l, longAgo) {
		l.Close()
	}
}

func acceptUntil(l net.Listener, t time.Time) bool {
	d, ok := plain(l).(interface{ SetDeadline(time.Time) error })
	return ok && d.SetDeadline(t) == nil
}

// oneWaits says whether a connection can be accepted.
func oneWaits(l net.Listener) bool {
	s, ok := plain(l).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // -1 or 0: there is none
	})
	return err == nil && n > 0
}

// plain is the listener below TLS.
func plain(l net.Listener) net.Listener {
	if t, ok := l.(*tlsListener); ok {
		return t.Listener
	}
	return l
}
