package membership

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate answers memberlist. All but the two of PingDelegate are called under
// memberlist's lock: they note and return.
type delegate struct{ *List }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta gives this node's metadata, whose size has been checked.
func (d delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wire
}

// The messages and states of users are not used: the table is Raft's.

func (d delegate) NotifyMsg([]byte)                {}
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

// NotifyJoin is also called when one that was dead is back.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	d.roll.heard(n.Name, n.Address(), decodeMeta(n.Meta), true, time.Now())
}

// NotifyUpdate tells of new metadata.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	d.roll.heard(n.Name, n.Address(), decodeMeta(n.Meta), false, time.Now())
}

// NotifyLeave tells of a death as well as of a good-bye.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.roll.gone(n.Name, time.Now()) }

// NotifyAlive refuses whoever the table does not know.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == d.cfg.ID || d.cfg.Allow == nil {
		return nil
	}
	return d.cfg.Allow(n.Name, n.Address())
}

// NotifyConflict tells that an ID is claimed by two addresses.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	c := Conflict{ID: existing.Name, Addr: existing.Address(), Other: other.Address()}
	d.log.Debug("two addresses claim one ID", "id", c.ID, "addr", c.Addr, "other", c.Other)
	select {
	case <-d.conflicts:
	default:
	}
	select {
	case d.conflicts <- c:
	default:
	}
	if c.ID == d.cfg.ID {
		select {
		case d.claimed <- c.Other:
		default:
		}
	}
}

// AckPayload is empty: a probe asks for a sign of life and nothing else.
func (d delegate) AckPayload() []byte { return nil }

// NotifyPingComplete tells of the answer to a probe.
func (d delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	d.roll.answered(n.Name, time.Now())
}
