package consensus

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// nameLayer is a Layer that knows who is at the other end, without the keys: who dials
// says whom it means.
type nameLayer struct {
	net.Listener
	id      string
	refused atomic.Int32 // connections that were meant for another
}

func listenAs(t *testing.T, id, addr string) *nameLayer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	must(t, err)
	return &nameLayer{Listener: l, id: id}
}

func (l *nameLayer) Dial(id, addr string, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	if _, err = io.WriteString(c, id+"\n"); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (l *nameLayer) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || line != l.id+"\n" {
			l.refused.Add(1)
			c.Close()
			continue
		}
		if _, err := c.Write([]byte("!")); err == nil {
			return c, nil
		}
		c.Close()
	}
}

// TestNewNameAtAnOldAddress: what answers at a lost member's address is not taken for
// that member, however empty it is, and becomes one under its own name.
func TestNewNameAtAnOldAddress(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.Layer = listenAs(t, cfg.ID, "127.0.0.1:0") })
	leader := c.leader()
	lost := c.others(leader)[0]
	addr := lost.Addr()
	lost.close(t)
	cfg := c.config("n4")
	layer := listenAs(t, "n4", addr)
	cfg.Layer = layer
	fresh := c.open(cfg)
	until(t, "the leader looks for the lost one", func() bool { return layer.refused.Load() > 0 })
	c.propose("while it is lost", lost)
	if fresh.HasState() {
		t.Error("another node has taken entries in the name of the lost one")
	}
	ctx := within(t, patience)
	leader = c.leader(lost)
	if err := leader.AddNonvoter(ctx, "n4", addr); !errors.Is(err, ErrMember) {
		t.Errorf("two members at one address: %v", err)
	}
	must(t, leader.Remove(ctx, lost.cfg.ID))
	must(t, leader.AddNonvoter(ctx, "n4", addr))
	must(t, leader.AddVoter(ctx, "n4", addr))
	c.servers = append(c.others(lost), fresh)
	c.propose("after")
	c.agree("while it is lost", "after")
}
