package membership

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// air is a network of one node, on which others are played.
type air struct {
	packets chan *memberlist.Packet
	streams chan net.Conn
	back    atomic.Int64 // bytes that the node has sent
}

func (a *air) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}
func (a *air) WriteTo(b []byte, _ string) (time.Time, error) {
	a.back.Add(int64(len(b)))
	return time.Now(), nil
}
func (a *air) PacketCh() <-chan *memberlist.Packet { return a.packets }
func (a *air) StreamCh() <-chan net.Conn           { return a.streams }
func (a *air) Shutdown() error                     { return nil }
func (a *air) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

// aead is memberlist's encryption with a key, and a nonce for it.
func aead(t testing.TB, key []byte) (gcm cipher.AEAD, nonce []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	if gcm, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	return gcm, make([]byte, gcm.NonceSize())
}

// sealed is a message as a packet, encrypted with a key: version 1 of memberlist's.
func sealed(t testing.TB, key, message []byte, label string) []byte {
	gcm, nonce := aead(t, key)
	packet, err := memberlist.AddLabelHeaderToPacket(gcm.Seal(append([]byte{1}, nonce...), nonce, message, []byte(label)), label)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// FuzzPacket: what comes by UDP without the key is not answered and changes nothing; what
// comes with it, from one who has got hold of it, brings in nobody whom the table does
// not have. Neither is a panic.
func FuzzPacket(f *testing.F) {
	key, wrong := make([]byte, 32), make([]byte, 32)
	wrong[0] = 1
	timings, err := Profile("lan")
	if err != nil {
		f.Fatal(err)
	}
	timings.GossipInterval, timings.ProbeInterval = time.Hour, time.Hour // it says nothing by itself
	l, err := New(Config{
		ID: "a", BindAddr: "127.0.0.1", BindPort: 7482, ClusterID: "c1", Timings: timings, Keys: [][]byte{key},
		Allow: func(id, _ string) error {
			if id != "b" {
				return errors.New("it is not in the table")
			}
			return nil
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	world := &air{packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	c := l.config()
	c.Transport = world
	g, err := memberlist.Create(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := g.Shutdown(); err != nil {
			f.Error(err)
		}
	})
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 7482}
	// hears returns when the packet has been taken: the channel has no buffer, and an
	// empty packet behind it is taken only then.
	hears := func(b []byte) {
		for _, p := range [][]byte{b, nil} {
			world.packets <- &memberlist.Packet{Buf: p, From: from, Timestamp: time.Now()}
		}
	}
	f.Add([]byte{0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'a'})                   // a ping
	f.Add([]byte{4, 0x83, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'x', 0xa4, 'A', 'd', 'd', 'r', 0xa4, 127, 0, 0, 8, 0xa4}) // alive
	f.Add([]byte{7, 2, 0, 3, 0, 3, 0, 1, 2, 0, 1, 2})                                                               // several
	f.Add([]byte{9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f', 0xa1, 0})                               // packed
	f.Add([]byte{12, 0, 0, 0, 0, 0})                                                                                // with a checksum
	f.Fuzz(func(t *testing.T, message []byte) {
		before := world.back.Load()
		plain, err := memberlist.AddLabelHeaderToPacket(message, "c1")
		if err != nil {
			t.Fatal(err)
		}
		for _, packet := range [][]byte{message, plain, sealed(t, wrong, message, "c1"), sealed(t, key, message, "c2")} {
			hears(packet)
		}
		if n := world.back.Load(); n != before || g.NumMembers() > 2 {
			t.Fatalf("%q without the key: %d bytes back, %d members", message, n-before, g.NumMembers())
		}
		hears(sealed(t, key, message, "c1"))
		if n := g.NumMembers(); n > 2 || len(l.Members()) > 2 {
			t.Fatalf("%q: %d members, %d known", message, n, len(l.Members()))
		}
	})
}
