package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests in wire_…_test.go say for each rule which bytes a client sends, which bytes
// the row gets for them, which bytes the client gets, and what becomes of both
// connections. Row and client are plain sockets.

// wire is one such line. After it comes an honest request: on the client's connection,
// unless that ends, and on the row's, unless that is spent. So whatever the row gets
// beyond what is said here shows, and nothing at all is the empty row.
type wire struct {
	name  string
	sent  string // in one write
	row   []talk
	got   string
	ends  bool // the client's connection
	spent bool // the row's connection
	more  []leg
	limit func(*Config, *Service)
}

// talk is what a row gets and says.
type talk struct {
	saw    string // {ours}: what the node says of itself; #: any hexadecimal digit
	says   string // when it has seen all of that, in one write
	later  string // when the client has had its answer
	anew   bool   // on a new connection
	hangup bool   // and closes
}

// leg is what a client sends when it has got what came before, and gets for it.
type leg struct{ sent, got string }

const (
	honest = "GET /honest HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	second = "GET /second HTTP/1.1\r\nHost: h\r\n\r\n" // behind what ends the connection
	get    = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	gotten = "GET / HTTP/1.1\r\nHost: h\r\n{ours}\r\n" // what a row sees of it
	empty  = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

	ours  = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=127.0.0.1;host=\"h\";proto=http\r\nVia: 1.1 orchd\r\n" + newID
	newID = "X-Request-Id: ################\r\n"
)

// badRequest is refused before a row sees any of it.
type badRequest struct {
	name, sent string
	code       int
	err        *refusal
}

// passing is what goes on, and how; odd is what does not.
type (
	passing struct{ name, sent, saw string }
	odd     struct{ name, sent string }
)

// refusedWith is what the client gets that is refused with err; the status is said once more.
func refusedWith(code int, err *refusal) string {
	return refusedOn(code, err, "Connection: close\r\n")
}

func refusedOn(code int, err *refusal, fields string) string {
	body := fmt.Sprintf("{\"error\":{\"code\":%d,\"message\":\"%s\"}}\n", code, err.message)
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", code, http.StatusText(code), len(body), fields, body)
}

func runWires(t *testing.T, wires []wire) {
	for _, w := range wires {
		t.Run(w.name, w.run)
	}
}

func (w wire) run(t *testing.T) {
	probe := talk{saw: "GET /honest HTTP/1.1\r\nHost: h\r\n{ours}\r\n", says: "HTTP/1.1 204 No Content\r\n\r\n", anew: w.spent}
	row := listen(t, append(slices.Clone(w.row), probe))
	table := acts(1, Row{Number: 1, Generation: 1, Node: "n1", Addr: row.l.Addr().String(), Direct: true})
	table.Services[0].DebugHeaders, table.Services[0].HealthPath, table.Services[0].Timeout = false, "", wireTimeout
	cfg := Config{Node: "n1", Hold: 50 * time.Millisecond}
	if w.limit != nil {
		w.limit(&cfg, &table.Services[0])
	}
	p := startWith(t, cfg, &counter{}, table)
	c := dialWire(t, p)
	for _, l := range append([]leg{{w.sent, w.got}}, w.more...) {
		if _, err := io.WriteString(c, l.sent); err != nil {
			t.Errorf("%q: %v", l.sent, err)
		}
		expect(t, c, l.got)
	}
	close(row.delivered)
	if w.ends {
		expectEnd(t, c)
		c = dialWire(t, p)
	}
	row.said(t)
	io.WriteString(c, honest)
	expect(t, c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	expectEnd(t, c)
	p.stop()
	row.finish(t)
}

// wireTimeout is how long anything may take that is only waited for where it fails.
const wireTimeout = 20 * time.Second

func dialWire(t *testing.T, p *lab) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wireTimeout))
	return c
}

// expect reads want, or says what came in its place.
func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, 0, len(want)+1)
	for len(got) < len(want) {
		n, err := c.Read(got[len(got):len(want)])
		if got = got[:len(got)+n]; err != nil || !matches(got, want) {
			t.Fatalf("the client gets\n%q, %v, want\n%q", got, err, want)
		}
	}
}

func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("at the end the client gets %q, %v, want the end of the connection", rest, err)
	}
	forget(c)
}

// forget closes a connection whose other side has ended it, so that its ports are free at
// once: thousands of tests would use them all up.
func forget(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0) // fails on a closed connection only
	c.Close()
}

// matches says whether b is the beginning of want, in which # is any hexadecimal digit.
func matches(b []byte, want string) bool {
	if len(b) > len(want) {
		return false
	}
	for i, x := range b {
		if x != want[i] && !(want[i] == '#' && unhex(x) >= 0) {
			return false
		}
	}
	return true
}

// wireRow is a row that compares what it gets, byte by byte.
type wireRow struct {
	l         net.Listener
	talks     []talk
	delivered chan struct{} // closed when the client has had its answers
	late      chan struct{} // closed when all that is said later has been
	serving   sync.WaitGroup

	mu     sync.Mutex
	at     int // of talks
	quit   string
	faults []string
}

func listen(t *testing.T, talks []talk) *wireRow {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &wireRow{l: l, talks: talks, delivered: make(chan struct{}), late: make(chan struct{})}
	r.serving.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.serving.Wait()
	})
	return r
}

func (r *wireRow) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		last := c.RemoteAddr().String() == r.quit
		r.mu.Unlock()
		if last {
			forget(c)
			return
		}
		x, ok := r.next(true) // here, where connections come in their order
		r.serving.Go(func() { r.converse(c.(*net.TCPConn), x, ok) })
	}
}

// converse has the talks of one connection, of which x is the first; ok says that there
// is one.
func (r *wireRow) converse(c *net.TCPConn, x talk, ok bool) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(wireTimeout))
	if !ok {
		r.fault("the row gets a connection too many")
	}
	for ; ; x, ok = r.next(false) {
		if !ok {
			b := make([]byte, 4096)
			if n, _ := c.Read(b); n > 0 {
				r.fault("the row gets %q, which it should not", b[:n])
			}
			forget(c)
			return
		}
		want := strings.ReplaceAll(x.saw, "{ours}", ours)
		if got, ok := read(c, want); !ok {
			r.fault("the row gets\n%q, want\n%q", got, want)
			return
		}
		if _, err := io.WriteString(c, x.says); err != nil {
			r.fault("the row cannot say %q: %v", x.says, err)
		}
		if x.later != "" {
			r.add(c, x.later)
		}
		if x.hangup {
			return
		}
	}
}

// next is the next talk, if it is for this connection.
func (r *wireRow) next(first bool) (talk, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == len(r.talks) || first != (r.at == 0 || r.talks[r.at].anew || r.talks[r.at-1].hangup) {
		return talk{}, false
	}
	r.at++
	return r.talks[r.at-1], true
}

// read reads want, but no further than to what differs from it.
func read(c net.Conn, want string) (got []byte, ok bool) {
	b := make([]byte, len(want)+4096)
	n := 0
	for n < len(want) {
		m, err := c.Read(b[n:])
		if n += m; err != nil || !matches(b[:n], want) {
			return b[:n], false
		}
	}
	return b[:n], true
}

// add says what nobody has asked for, and waits until the proxy's side has it.
func (r *wireRow) add(c *net.TCPConn, late string) {
	defer close(r.late)
	<-r.delivered
	io.WriteString(c, late)
	raw, err := c.SyscallConn()
	if err != nil {
		r.fault("%v", err)
		return
	}
	for end, left := time.Now().Add(wireTimeout), 1; left > 0; {
		raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err != nil || time.Now().After(end) {
			r.fault("%d late bytes are not taken: %v", left, err)
			return
		}
	}
}

func (r *wireRow) said(t *testing.T) {
	if slices.ContainsFunc(r.talks, func(x talk) bool { return x.later != "" }) {
		select {
		case <-r.late:
		case <-time.After(wireTimeout):
			t.Error("the row does not come to say what it says later")
		}
	}
}

func (r *wireRow) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// finish is called when the proxy has ended: a last connection, which is accepted after
// all of the proxy's, tells that there is no other.
func (r *wireRow) finish(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	c, err := net.Dial("tcp", r.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r.quit = c.LocalAddr().String()
	r.mu.Unlock()
	r.serving.Wait()
	c.Close()
	for _, f := range r.faults {
		t.Error(f)
	}
	if r.at < len(r.talks) {
		t.Errorf("the row never gets %q", r.talks[r.at].saw)
	}
}
