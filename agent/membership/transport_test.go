package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// Kinds of message of memberlist's.
const (
	ackKind       = 2
	pushPullKind  = 6
	encryptedKind = 10
)

// ping asks node a for an answer.
var ping = []byte{0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'a'}

// claim is the head of a stream whose message has a length, which takes no key to say.
func claim(t testing.TB, label string, length int) []byte {
	head, err := memberlist.AddLabelHeaderToPacket([]byte{encryptedKind}, label)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.AppendUint32(head, uint32(length))
}

// streamed is a message as a stream, encrypted with a key.
func streamed(t testing.TB, key, message []byte, label string) []byte {
	gcm, nonce := aead(t, key)
	b := claim(t, label, 1+len(nonce)+len(message)+gcm.Overhead())
	known := append(bytes.Clone(b[len(b)-5:]), label...)
	return gcm.Seal(append(append(b, 1), nonce...), nonce, message, known)
}

// answer is the message that comes back on a stream.
func answer(t testing.TB, key []byte, c net.Conn, label string) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	gcm, nonce := aead(t, key)
	if err != nil || len(b) < 6+len(nonce) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	copy(nonce, b[6:])
	plain, err := gcm.Open(nil, nonce, b[6+len(nonce):], append(bytes.Clone(b[:5]), label...))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// crowd are connections to a node from one address.
type crowd struct {
	t    *testing.T
	from net.IP
	to   string
	cut  atomic.Int64 // how many the node has closed
	wg   sync.WaitGroup
}

func (c *crowd) dial() net.Conn {
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: c.from}}).Dial("tcp", c.to)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

// hold opens connections and leaves them, with something sent on each.
func (c *crowd) hold(n int, sent []byte) {
	for range n {
		conn := c.dial()
		c.wg.Go(func() {
			defer conn.Close()
			conn.Write(sent)
			io.Copy(io.Discard, conn) // until the node closes it
			c.cut.Add(1)
		})
	}
}

// flood opens connections as fast as the node closes others, and returns how to end that.
func (c *crowd) flood(sent []byte) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var open []net.Conn
		defer func() {
			for _, conn := range open {
				conn.Close()
			}
		}()
		for {
			select {
			case <-done:
				return
			default:
			}
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: c.from}}).Dial("tcp", c.to)
			if err != nil {
				c.t.Error(err)
				return
			}
			conn.Write(sent)
			if open = append(open, conn); len(open) > 2*maxStreams {
				io.Copy(io.Discard, open[0])
				open[0].Close()
				open = open[1:]
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	c.t.Cleanup(stop)
	return stop
}

// TestStrangersHoldLittle: whoever knows the cluster's ID and no key can have a node read
// and keep little, on few connections, and shuts nobody out.
func TestStrangersHoldLittle(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	c := &cluster{t: t}
	config := func(id, ip string) Config {
		cfg := c.config(id, ip)
		cfg.Keys = [][]byte{key}
		cfg.Timings.Stream = time.Minute // nothing here ends because its time is over
		return cfg
	}
	a := c.start(config("a", "127.0.0.1"))
	const most = 20 << 20 // what memberlist itself would read
	head := claim(t, "c1", most)
	strangers := &crowd{t: t, from: net.IPv4(127, 0, 0, 66), to: a.Addr()}
	until(t, "a has looked around", func() bool { return len(a.Members()) == 1 })

	var all sync.WaitGroup
	for range maxStreams / 2 {
		conn := strangers.dial()
		all.Go(func() {
			defer conn.Close()
			conn.Write(head)
			if n, err := io.Copy(conn, io.LimitReader(zeros{}, most)); err == nil {
				t.Errorf("all %d bytes were read", n)
			}
		})
	}
	all.Wait()

	before := heap()
	within := append(bytes.Clone(head), make([]byte, maxStreamBytes*3/4)...)
	strangers.hold(2*maxStreams, within)
	until(t, "all but some are closed", func() bool { return strangers.cut.Load() == maxStreams })
	if now := heap(); now > before+maxStreams*4*maxStreamBytes {
		t.Errorf("they take %d KiB", (now-before)>>10)
	}

	// A peer that is slow is not closed for those who come after it from elsewhere.
	peer := &crowd{t: t, from: net.IPv4(127, 0, 0, 2), to: a.Addr()}
	slow := peer.dial()
	defer slow.Close()
	words := streamed(t, key, ping, "c1")
	slow.Write(words[:20])
	strangers.hold(2*maxStreams, within[:20])
	until(t, "all but one less are closed", func() bool { return strangers.cut.Load() == 3*maxStreams+1 })
	slow.Write(words[20:])
	if got := answer(t, key, slow, "c1"); got[0] != ackKind {
		t.Errorf("the slow peer gets %q", got)
	}

	stop := strangers.flood(within[:20])
	b := c.start(config("b", "127.0.0.2"))
	until(t, "b joins", func() bool { return a.sees("b").Status == Alive && b.sees("a").Status == Alive })
	for range 5 {
		if _, err := b.gossip.Join([]string{a.Addr()}); err != nil {
			t.Errorf("an exchange of states: %v", err)
		}
	}
	stop()

	strangers.hold(10, within[:20])
	if _, err := b.gossip.Join([]string{a.Addr()}); err != nil { // then those before it have been accepted
		t.Error(err)
	}
	a.kill(t)
	until(t, "the end of a is the end of its streams", func() bool { return strangers.cut.Load() == 4*maxStreams+10 })
	strangers.wg.Wait()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// heap is what is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestLongAnswer: whoever is at the address of a node can not have another read more.
func TestLongAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.66:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	var whole atomic.Int64
	head := claim(t, "", 20<<20) // an answer has no label
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write(head)
			if _, err := io.Copy(conn, io.LimitReader(zeros{}, 20<<20)); err == nil {
				whole.Add(1)
			}
			conn.Close()
		}
	})
	c := &cluster{t: t, addrs: []string{l.Addr().String()}}
	cfg := c.config("a", "127.0.0.1")
	cfg.Keys = [][]byte{make([]byte, 32)}
	a := c.start(cfg)
	until(t, "a says what is wrong", func() bool { return strings.Contains(trouble(a), "more than 256 KiB") })
	a.kill(t)
	if n := whole.Load(); n > 0 {
		t.Errorf("%d long answers were read", n)
	}
}

// TestLargestState: the state of as many nodes as there is room for, each as large as it
// can be, goes over a stream both ways.
func TestLargestState(t *testing.T) {
	const nodes = 390
	state := []byte{pushPullKind, 0x83}
	text := func(s string) { state = append(append(state, 0xa0|byte(len(s))), s...) }
	long := func(b []byte) {
		state = append(binary.BigEndian.AppendUint16(append(state, 0xda), uint16(len(b))), b...)
	}
	text("Nodes")
	state = binary.BigEndian.AppendUint16(append(state, 0xcd), nodes)
	text("UserStateLen")
	state = append(state, 0)
	text("Join")
	state = append(state, 0xc3)
	for i := range nodes {
		state = append(state, 0x87)
		text("Name")
		long(fmt.Appendf(nil, "%063d", i)) // the longest ID
		text("Addr")
		text(string(net.IPv4(127, 9, byte(i>>8), byte(i)).To16()))
		text("Port")
		state = append(state, 0xcd, 0, 9)
		text("Meta")
		long(bytes.Repeat([]byte{'m'}, memberlist.MetaMaxSize))
		text("Incarnation")
		state = append(state, 0xce, 0xff, 0, 0, 0)
		text("State")
		state = append(state, 0) // alive
		text("Vsn")
		text(string([]byte{1, 5, 2, 0, 0, 0}))
	}
	key := bytes.Repeat([]byte{7}, 32)
	c := &cluster{t: t}
	config := func(id, ip string) Config {
		cfg := c.config(id, ip)
		cfg.Keys = [][]byte{key}
		cfg.Timings.ProbeInterval = time.Hour // nobody finds out that there are none
		return cfg
	}
	a := c.start(config("a", "127.0.0.1"))
	conn, err := net.Dial("tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(streamed(t, key, state, "c1")); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, key, conn, "c1"); got[0] != pushPullKind {
		t.Fatalf("the answer is %.200q", got)
	}
	until(t, "a knows them", func() bool { return len(a.Members()) == nodes+1 })
	b := c.start(config("b", "127.0.0.2"))
	until(t, "b hears of them in one answer", func() bool { return len(b.Members()) == nodes+2 })
	if _, err := b.gossip.Join([]string{a.Addr()}); err != nil {
		t.Errorf("b tells of them: %v", err)
	}
}

// TestStreamEnds at its time, whatever deadline its user sets.
func TestStreamEnds(t *testing.T) {
	for name, set := range map[string]func(*stream) error{
		"none": func(*stream) error { return nil },
		"both": func(s *stream) error { return s.SetDeadline(time.Now().Add(time.Hour)) },
		"apart": func(s *stream) error {
			return errors.Join(s.SetReadDeadline(time.Time{}), s.SetWriteDeadline(time.Time{}))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			began := time.Now()
			s := bound(near, 2*time.Second)
			if err := set(s); err != nil {
				t.Fatal(err)
			}
			_, read := s.Read(make([]byte, 1))
			_, write := s.Write(make([]byte, 1))
			if d := time.Since(began); d != 2*time.Second || !errors.Is(read, os.ErrDeadlineExceeded) || !errors.Is(write, os.ErrDeadlineExceeded) {
				t.Errorf("%s: after %s: %v, %v", name, d, read, write)
			}
			if got := s.sooner(began); !got.Equal(began) {
				t.Errorf("%s: a sooner deadline becomes %s", name, got)
			}
		})
	}
}

// TestSurplus goes where most come from, and there to the oldest.
func TestSurplus(t *testing.T) {
	for _, c := range []struct {
		from string
		want int
	}{
		{"10.0.0.1 10.0.0.2 10.0.0.3", 0},
		{"10.0.0.1 10.0.0.2 10.0.0.2 10.0.0.1 10.0.0.2", 1},
		{"10.0.0.1 ::ffff:10.0.0.2 10.0.0.2", 1},
		{"2001:db8:0:1::1 2001:db8::1 2001:db8::2", 1},
		{"10.0.0.1 fe80::1%eth0 fe80::2%eth1", 1},
	} {
		var open []*stream
		for ip := range strings.FieldsSeq(c.from) {
			at, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(ip, "1"))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, &stream{from: network(at)})
		}
		if got := surplus(open); got != c.want {
			t.Errorf("%s: %d, want %d", c.from, got, c.want)
		}
	}
}
