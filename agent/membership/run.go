package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// blockedRounds is how many rounds of silence of a node that nobody calls
	// dead make a UDP port that is closed the likely cause.
	blockedRounds = 10
	// claimPings is how often an address that claims our ID is asked whether
	// that is so: a node that has just moved is still spoken of at its old one.
	claimPings = 3
)

// Run listens, joins the addresses that seeds returns and tries those that are
// not there again and again: memberlist forgets the dead. seeds may name this
// node and may change. Run returns nil when ctx ends, without a good-bye unless
// Leave was called, and an error where it cannot listen or where another living
// node has this node's ID (ErrDuplicate).
func (l *List) Run(ctx context.Context, seeds func() []string) (err error) {
	g, err := l.create()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.gossip, l.addr = g, g.LocalNode().Address()
	l.mu.Unlock()
	close(l.ready)
	defer l.registerMetrics()()
	defer func() {
		l.mu.Lock()
		l.gossip = nil
		l.mu.Unlock()
		err = errors.Join(err, g.Shutdown())
	}()
	started, settled := time.Now(), false
	rejoin := time.NewTimer(0)
	defer rejoin.Stop()
	look := time.NewTicker(l.cfg.Timings.ProbeInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rejoin.C:
			alone := l.join(ctx, g, seeds())
			if err := l.settle(ctx, g, settled); err != nil {
				return err
			}
			// A node that has joined, or that has nobody to join, was here first:
			// a later claimant of its ID is refused by the others and by itself.
			settled = settled || !alone || time.Since(started) > reclaimTime
			l.roll.forget(l.welcome, time.Now())
			rejoin.Reset(l.cfg.Timings.Rejoin)
		case <-l.update:
			l.tell(g)
		case <-look.C:
			l.roll.doubt(l.cfg.ID, l.patience(), time.Now())
		}
	}
}

// patience is how long a node may give no answer before it is suspect: the
// longest time between two probes of it. memberlist probes all in turn, each
// round in another order; so a node may be the first of one round and the last
// of the next.
func (l *List) patience() time.Duration {
	_, n := l.roll.present()
	gap := max(2*(n-1)-1, 1)
	return time.Duration(gap)*l.cfg.Timings.ProbeInterval + l.cfg.Timings.ProbeTimeout
}

func (l *List) tell(g *memberlist.Memberlist) {
	l.telling.Lock()
	defer l.telling.Unlock()
	if err := g.UpdateNode(l.cfg.Timings.Stream); err != nil {
		l.log.Debug("tell the others of new metadata", "reason", err)
	}
}

// join tries the seeds that are not there. It reports alone where there are
// others to join and none has been reached.
func (l *List) join(ctx context.Context, g *memberlist.Memberlist, seeds []string) (alone bool) {
	present, n := l.roll.present()
	var faults []error
	for _, s := range seeds {
		if s == l.Addr() || present[s] || ctx.Err() != nil {
			continue
		}
		alone = true
		// memberlist would look anything else up in the DNS, and wait for it.
		if _, err := netip.ParseAddrPort(s); err != nil {
			faults = append(faults, fmt.Errorf("gossip address %q: write it as IP:PORT", s))
			continue
		}
		if _, err := g.Join([]string{s}); err != nil {
			if one := errors.Unwrap(err); one != nil {
				err = one // memberlist makes a list of it, on several lines
			}
			if l.gone(s) {
				continue
			}
			faults = append(faults, fmt.Errorf("no gossip with %s (down, of another cluster, or with another key): %w", s, err))
			continue
		}
		n++
	}
	faults = append(faults, l.silent()...)
	l.setTrouble(errors.Join(faults...))
	return alone && n <= 1
}

// silent finds those that are spoken of as alive and never answer: TCP works,
// UDP does not, and such a node would look as if it came and went.
func (l *List) silent() []error {
	var faults []error
	limit := blockedRounds * l.cfg.Timings.ProbeInterval
	for _, m := range l.roll.members() {
		if m.Status == Suspect && time.Since(m.Since) > limit && !l.gone(m.Addr) {
			faults = append(faults, fmt.Errorf("node %s at %s answers on TCP but not on UDP; open UDP on that port", m.ID, m.Addr))
		}
	}
	return faults
}

func (l *List) gone(addr string) bool { return l.cfg.Gone != nil && l.cfg.Gone(addr) }

func (l *List) setTrouble(err error) {
	l.mu.Lock()
	was := l.trouble
	if l.trouble = err; was == nil {
		l.since = time.Now()
	}
	l.mu.Unlock()
	switch {
	case err != nil && was == nil:
		l.log.Warn("gossip does not reach everybody", "reason", err)
	case err == nil && was != nil:
		l.log.Info("gossip reaches everybody again")
	}
}

// settle looks at who claims our ID. One who joins and finds the ID taken by a
// node that answers gives up; one who was here first goes on and says so.
func (l *List) settle(ctx context.Context, g *memberlist.Memberlist, settled bool) error {
	var other string
	select {
	case other = <-l.claimed:
	default:
		return nil
	}
	if settled {
		if other != l.claimant {
			l.log.Error("another node claims this node's ID and is ignored; give it an ID of its own", "addr", other)
		}
		l.claimant = other
		return nil
	}
	addr, err := net.ResolveUDPAddr("udp", other)
	if err != nil {
		return nil // it came from memberlist, which dials it
	}
	for range claimPings {
		if ctx.Err() != nil {
			return nil
		}
		if _, err := g.Ping(l.cfg.ID, addr); err == nil {
			return fmt.Errorf("%w: %s is a living node at %s; give this one another --node-id", ErrDuplicate, l.cfg.ID, other)
		}
	}
	l.log.Info("this node's ID is still known at an old address; waiting until the others let it go", "addr", other)
	return nil
}
