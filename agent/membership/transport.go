package membership

import (
	"fmt"
	"log"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams is how many streams from others may be open at once. A peer's takes
	// some round trips, and each peer has one or two, so that only strangers hold many.
	maxStreams = 32
	// maxStreamBytes is what is read from one stream, either way. The longest message is
	// the state of all nodes, of which each takes 660 bytes at most, 512 of them metadata
	// and 63 its ID, and 160 as a rule: room for 390 nodes at least. Until a key has been
	// tried all of it is in memory, in a buffer that grows by doubling as bytes come.
	maxStreamBytes = 256 << 10
	// portTries is how often the kernel is asked for a port: the one it chooses for TCP
	// may be taken for UDP.
	portTries = 10
)

// transport is memberlist's own, with bounds on the streams. memberlist by itself serves
// as many at once as are opened, and reads up to 20 MiB from each before it tries a key:
// whoever knows the cluster's ID, which is no secret, could take all memory and all file
// descriptors.
type transport struct {
	memberlist.NodeAwareTransport
	limit time.Duration // of one stream
	log   *log.Logger

	in    chan net.Conn // what memberlist gets
	stop  chan struct{} // closed when Shutdown begins
	ended chan struct{} // closed when no more streams can come
	once  sync.Once
	wg    sync.WaitGroup

	closing chan struct{} // holds one for each stream that is being closed to make room

	mu   sync.Mutex
	open []*stream // from others, oldest first
}

// listen opens the port of a configuration, and sets it where the kernel has chosen.
func listen(c *memberlist.Config) (*transport, error) {
	tries := 1
	if c.BindPort == 0 {
		tries = portTries
	}
	var below *memberlist.NetTransport
	var err error
	for range tries {
		below, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: c.Logger,
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if c.BindPort == 0 {
		c.BindPort = below.GetAutoBindPort()
		c.AdvertisePort = c.BindPort
	}
	t := &transport{
		NodeAwareTransport: below, limit: c.TCPTimeout, log: c.Logger,
		in: make(chan net.Conn), stop: make(chan struct{}), ended: make(chan struct{}),
		closing: make(chan struct{}, maxStreams),
	}
	t.wg.Go(t.take)
	return t, nil
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.in }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport. An answer too is read
// before a key is tried, so it has the same bounds.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	raw, err := t.NodeAwareTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	return bound(raw, t.limit), nil
}

// Shutdown closes the port and every stream from others: memberlist, which does not wait
// for those, would keep a silent one until its time is over.
func (t *transport) Shutdown() (err error) {
	t.once.Do(func() {
		close(t.stop)
		err = t.NodeAwareTransport.Shutdown()
		close(t.ended)
		t.wg.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, s := range t.open {
			s.Conn.Close()
		}
	})
	return err
}

// take hands streams on. It goes on after stop: the transport below waits in its Shutdown
// until the last one has been taken from it.
func (t *transport) take() {
	for {
		select {
		case raw := <-t.NodeAwareTransport.StreamCh():
			s := t.admit(raw)
			select {
			case t.in <- s:
			case <-t.stop:
				s.Close()
			}
		case <-t.ended:
			return
		}
	}
}

// admit puts a stream on the list, and closes another where there are too many.
func (t *transport) admit(raw net.Conn) *stream {
	s := bound(raw, t.limit)
	s.from, s.forget = network(raw.RemoteAddr()), t.forget
	t.mu.Lock()
	t.open = append(t.open, s)
	var out *stream
	if len(t.open) > maxStreams {
		i := surplus(t.open)
		out = t.open[i]
		t.open = slices.Delete(t.open, i, i+1)
	}
	t.mu.Unlock()
	if out != nil {
		// Close waits for who reads from it, which the next stream need not.
		t.closing <- struct{}{}
		t.wg.Go(func() { out.Conn.Close(); <-t.closing })
		t.log.Printf("[WARN] memberlist: more than %d streams at once: the oldest from %s is closed; shut the gossip port to all but the nodes in the network's firewall",
			maxStreams, out.from.Addr())
	}
	return s
}

func (t *transport) forget(s *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = slices.DeleteFunc(t.open, func(o *stream) bool { return o == s })
}

// surplus is which of the streams, oldest first, is to go: the oldest of the network that
// has the most. So a flood from one network closes streams of that network alone; and a
// peer that is in it is served all the same, as the newest, for a while.
func surplus(open []*stream) int {
	count, most := map[netip.Prefix]int{}, 0
	for _, s := range open {
		count[s.from]++
		most = max(most, count[s.from])
	}
	return slices.IndexFunc(open, func(s *stream) bool { return count[s.from] == most })
}

// network is whose streams count together: an address, and of IPv6 all that one machine
// can give itself.
func network(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// stream is a connection that ends after a time and a number of bytes, whatever its user
// asks for.
type stream struct {
	net.Conn
	end    time.Time
	left   int           // bytes that may still be read, by one goroutine at a time
	from   netip.Prefix  // of one from others
	forget func(*stream) // nil for one to others
}

func bound(raw net.Conn, limit time.Duration) *stream {
	s := &stream{Conn: raw, end: time.Now().Add(limit), left: maxStreamBytes}
	raw.SetDeadline(s.end)
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, fmt.Errorf("more than %d KiB in one stream, which no node of this cluster sends; look what is at that address", maxStreamBytes>>10)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close takes the stream off the list.
func (s *stream) Close() error {
	if s.forget != nil {
		s.forget(s)
	}
	return s.Conn.Close()
}

// The deadlines may come sooner than the end, and not later.

func (s *stream) SetDeadline(t time.Time) error      { return s.Conn.SetDeadline(s.sooner(t)) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.Conn.SetReadDeadline(s.sooner(t)) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.Conn.SetWriteDeadline(s.sooner(t)) }

func (s *stream) sooner(t time.Time) time.Time {
	if t.IsZero() || t.After(s.end) {
		return s.end
	}
	return t
}
