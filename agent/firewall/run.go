package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Run keeps the rules until ctx ends, and leaves them in force then: containers go on
// running. It looks at once, each interval, and when poke says that peers may be
// others. An address of loopback needs no rules.
func (f *Firewall) Run(ctx context.Context, peers func() []netip.Addr, poke <-chan struct{}) error {
	if f.cfg.Address.IsLoopback() {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(f.cfg.Interval)
	defer tick.Stop()
	last := f.wants(peers)
	f.look(ctx, last)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			last = f.wants(peers)
		case <-poke: // far more often than what matters here changes
			now := f.wants(peers)
			if slices.Equal(now.rules, last.rules) {
				continue
			}
			last = now
		}
		f.look(ctx, last)
	}
}

// wanted is what should be in force.
type wanted struct {
	peers []netip.Addr
	rules []string
}

func (f *Firewall) wants(peers func() []netip.Addr) wanted {
	in := among(peers(), f.cfg.Address)
	return wanted{peers: in, rules: f.rules(in, among(f.cfg.Containers(), f.cfg.Address))}
}

// look is one pass; it says what changed since the last.
func (f *Firewall) look(ctx context.Context, w wanted) {
	lost := f.kept.rules != nil && slices.Equal(f.kept.rules, w.rules)
	changed, err := f.pass(ctx, w.rules)
	switch {
	case ctx.Err() != nil: // a pass that was cut off says nothing
		return
	case err != nil:
		f.fail(err)
		return
	case changed && lost:
		f.log.Warn("somebody changed the rules of the container ports; they are in force again", "chain", f.chain)
	case !slices.Equal(f.told, w.peers):
		f.log.Info("container ports answer to peers only", "ports", f.cfg.Ports, "addr", f.cfg.Address, "peers", w.peers, "chain", f.chain)
		f.told = w.peers
	}
	f.mend()
}

// pass makes the rules what they should be, and says whether they were not.
func (f *Firewall) pass(ctx context.Context, rules []string) (changed bool, err error) {
	t, err := f.read(ctx, f.family())
	if err != nil {
		return false, err
	}
	if f.right(t, rules) {
		return false, nil
	}
	if err := f.restore(ctx, f.family(), f.script(t, rules)); err != nil {
		return false, err
	}
	// How iptables shows a rule differs between its versions, so the next look compares
	// with what this one shows.
	if t, err = f.read(ctx, f.family()); err != nil {
		return false, err
	}
	f.kept = kept{rules: rules, shown: t[f.chain]}
	if !f.right(t, rules) || len(t[f.chain]) != len(rules) {
		f.kept = kept{}
		return false, errors.New("somebody changes the rules at the same time")
	}
	return true, nil
}

// fail notes why the ports are not known to be shut; it is logged when that changes.
func (f *Firewall) fail(err error) {
	are := "are"
	if f.kept.rules != nil {
		are = "may be" // the rules were there when they could be looked at
	}
	reason := fmt.Sprintf("container ports %s %s open to everybody who reaches %s: %v", f.cfg.Ports, are, f.cfg.Address, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Reason == reason {
		return
	}
	if f.state.Reason == "" {
		f.state.Since = time.Now()
	}
	f.state.Reason = reason
	f.log.Warn("container ports are not guarded", "reason", reason)
}

func (f *Firewall) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Reason != "" {
		f.log.Info("container ports are guarded again", "chain", f.chain)
	}
	f.state = State{}
}

// Remove takes away all that is ours, for a node that leaves: in the tables of both
// families, whatever the address, since an earlier run may have had another. Nothing
// there is success.
func (f *Firewall) Remove(ctx context.Context) error {
	f.kept = kept{}
	var errs []error
	for _, family := range families {
		if err := f.removeFrom(ctx, family); err != nil {
			errs = append(errs, fmt.Errorf("remove the rules of the container ports: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (f *Firewall) removeFrom(ctx context.Context, family string) error {
	t, err := f.read(ctx, family)
	if err != nil {
		// Where rules are neither wanted nor can be listed there are none, as far as is
		// known: a container that has no right to, a kernel without IPv6.
		if errors.Is(err, errMissing) || f.cfg.Address.IsLoopback() || family != f.family() {
			return nil
		}
		return err
	}
	script := f.removal(t)
	if script == "" {
		return nil
	}
	if err := f.restore(ctx, family, script); err != nil {
		return err
	}
	f.log.Info("rules of the container ports removed", "chain", f.chain)
	return nil
}
