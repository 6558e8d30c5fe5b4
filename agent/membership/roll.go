package membership

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// The states of a member. Nothing is relaunched on gossip alone: they are hints.
const (
	Alive   = "alive"
	Suspect = "suspect" // it has not answered this node's probes; others may still reach it
	Dead    = "dead"    // nobody could reach it, and it did not object
	Left    = "left"    // it said good-bye
)

// forgetAfter is how long one that is gone stays on the roll when no table says
// who belongs there.
const forgetAfter = time.Hour

// Member is one node as this node sees it.
type Member struct {
	ID     string
	Addr   string // host:port of its gossip
	Meta   Meta
	Status string    // Alive, Suspect, Dead or Left
	Since  time.Time // of the status
}

// roll is every node that has been heard of, the dead included: memberlist
// forgets them, and what it hands out may not be read while it runs.
type roll struct {
	mu    sync.Mutex
	nodes map[string]*line
	kick  chan struct{} // 1-buffered
}

type line struct {
	Member
	leaving bool
	acked   time.Time // the last answer to a probe of ours, or when it came
}

func newRoll() *roll { return &roll{nodes: map[string]*line{}, kick: make(chan struct{}, 1)} }

func (r *roll) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// heard notes a node that is alive, or news of one.
func (r *roll) heard(id, addr string, meta wireMeta, joined bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.nodes[id]
	if l == nil {
		l = &line{Member: Member{ID: id}}
		r.nodes[id] = l
	}
	l.Addr, l.Meta, l.leaving = addr, meta.Meta, meta.Leaving
	if joined || l.Status == "" {
		l.Status, l.Since, l.acked = Alive, now, now
	}
	r.poke()
}

// gone notes that memberlist has given a node up.
func (r *roll) gone(id string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.nodes[id]
	if l == nil {
		return
	}
	l.Status, l.Since = Dead, now
	if l.leaving {
		l.Status = Left
	}
	r.poke()
}

// answered notes the answer to a probe.
func (r *roll) answered(id string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.nodes[id]
	if l == nil {
		return
	}
	l.acked = now
	if l.Status == Suspect {
		l.Status, l.Since = Alive, now
		r.poke()
	}
}

// doubt makes those suspect that have not answered for longer than patience.
func (r *roll) doubt(self string, patience time.Duration, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.nodes {
		if l.ID != self && l.Status == Alive && now.Sub(l.acked) > patience {
			l.Status, l.Since = Suspect, now
			r.poke()
		}
	}
}

// forget removes those who are gone and not welcome, or gone for long where no
// table says who is welcome. One who is refused but there stays: memberlist says
// who is there only once, and it may be welcome again.
func (r *roll) forget(welcome func(Member) (is, known bool), now time.Time) {
	for _, m := range r.members() {
		if m.Status != Dead && m.Status != Left {
			continue
		}
		if is, known := welcome(m); is && (known || now.Sub(m.Since) < forgetAfter) {
			continue
		}
		r.mu.Lock()
		if l := r.nodes[m.ID]; l != nil && l.Since.Equal(m.Since) {
			delete(r.nodes, m.ID)
			r.poke()
		}
		r.mu.Unlock()
	}
}

// members returns a copy, sorted by ID.
func (r *roll) members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Member, 0, len(r.nodes))
	for _, l := range r.nodes {
		all = append(all, l.Member)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// present reports whether an address belongs to one who is not gone, and how
// many there are.
func (r *roll) present() (addrs map[string]bool, n int) {
	addrs = map[string]bool{}
	for _, m := range r.members() {
		if m.Status == Alive || m.Status == Suspect {
			addrs[m.Addr] = true
			n++
		}
	}
	return addrs, n
}
