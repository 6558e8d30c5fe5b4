package fsm

import (
	"math/bits"
	"strings"

	"pgregory.net/rapid"
)

// entry is one entry of a random log.
type entry struct {
	stamp int64
	cmd   Command
}

// roll draws an even number below n, bit by bit: rapid's own integers lean to the
// small ones, and most kinds of command would hardly ever be drawn.
func roll(t *rapid.T, n int) int {
	v := 0
	for range bits.Len(uint(n)) + 3 {
		v <<= 1
		if coin.Draw(t, "bit") {
			v |= 1
		}
	}
	return v % n
}

var coin = rapid.Bool()

func oneOf[T any](t *rapid.T, of ...T) T { return of[roll(t, len(of))] }

// The world of a random log is small, so that commands meet.
var (
	drawnServices = []string{"acts", "users"}
	drawnNodes    = []string{"n1", "n2", "n3", "n4"}
)

// drawnScale has a short window for one service, so that its buckets are let go of
// within a log, and the default for the other. It never changes within a log.
func drawnScale(service string) Scale {
	if service == "users" {
		return Scale{Min: 2, Max: 6, Window: Duration(4e9), Cooldown: Duration(3e9)}
	}
	return Scale{}
}

func drawnSpec(t *rapid.T, name string) Spec {
	s := Spec{Name: name, Image: oneOf(t, "a:1", "a:2"), Scale: drawnScale(name)}
	if roll(t, 2) == 0 {
		s.Env, s.Volumes = map[string]string{"A": "1", "B": "<é>"}, []Volume{{Name: "data", Target: "/data"}}
	}
	return s.WithDefaults()
}

func reason(t *rapid.T) string {
	return oneOf(t, "", "exit code 137", "health answered 500 ", "é"+strings.Repeat("世", MaxReason))
}

// command draws a command that is mostly valid in s.
func command(t *rapid.T, s *State) Command {
	service, node := oneOf(t, drawnServices...), oneOf(t, drawnNodes...)
	weights := []struct {
		weight int
		draw   func() Command
	}{
		{1, func() Command { return InitCluster{ClusterID: oneOf(t, "c1", "c2")} }},
		{2 + 8/(1+len(s.Nodes)), func() Command { return drawPutNode(t, node) }},
		{3, func() Command {
			n, _ := s.Node(node)
			return SetNodeStatus{ID: node, Seen: older(t, n.Index), Status: oneOf(t, NodeAlive, NodeAlive, NodeSuspect, NodeDead, NodeLeft, NodeDraining, "odd"), Reason: reason(t)}
		}},
		{1, func() Command { return RemoveNode{ID: node} }},
		{1 + 8/(1+2*len(s.Services)), func() Command {
			sv, _ := s.Service(service)
			return PutService{Spec: drawnSpec(t, service), Seen: oneOf(t, 0, older(t, sv.Index)), Base: oneOf(t, 0, older(t, sv.Newest().Number)), Restart: oneOf(t, "", "", "r1", "r2"), ImageID: oneOf(t, "", "i1", "i2"), By: reason(t)}
		}},
		{2, func() Command {
			sv, _ := s.Service(service)
			left := older(t, sv.Newest().Number)
			if roll(t, 2) == 0 {
				return EndRollout{Service: service, Revision: left, Outcome: oneOf(t, Good, Good, Failed, "odd"), Reason: reason(t)}
			}
			return RollBack{Service: service, Left: left, To: left - min(left, uint64(roll(t, 4))), Failed: roll(t, 2) == 0, Reason: reason(t)}
		}},
		{1, func() Command { return DrainNode{ID: node, Deadline: oneOf(t, 0, s.Stamp+1000)} }},
		{1, func() Command { return RemoveService{Name: service} }},
		{1, func() Command { return ScaleByHand{Service: service, Count: roll(t, 12)} }},
		{1, func() Command {
			sv, _ := s.Service(service)
			return Decide{Service: service, Seen: older(t, sv.Index), Decision: Decision{Desired: roll(t, 9) - 1, At: s.Stamp, Reason: reason(t)}}
		}},
		{4 + 8/(1+len(s.Containers)), func() Command {
			return Place{Service: service, Number: roll(t, 7), Node: node, Port: drawnPort(t), Reason: reason(t)}
		}},
		{min(20, 6*len(s.Containers)), func() Command { return rowCommand(t, s, s.Containers[roll(t, len(s.Containers))]) }},
		{1, func() Command { return Observe{Node: node, Service: service, Number: 1, Generation: 1, Phase: Running} }},
		{8, func() Command { return drawTakeTurns(t, s, service, node) }},
		{1, func() Command {
			return Note{ID: oneOf(t, "", "x", "y", "z"), What: oneOf(t, "note", strings.Repeat("w", MaxReason)), Node: node, Reason: reason(t)}
		}},
	}
	sum := 0
	for _, w := range weights {
		sum += w.weight
	}
	at := roll(t, sum)
	for _, w := range weights {
		if at -= w.weight; at < 0 {
			return w.draw()
		}
	}
	panic("unreachable: at is below the sum of the weights")
}

// older is index, or now and then one that has been overtaken.
func older(t *rapid.T, index uint64) uint64 {
	if roll(t, 8) == 0 {
		return index - min(index, 1)
	}
	return index
}

func drawnPort(t *rapid.T) int {
	if roll(t, 16) == 0 {
		return oneOf(t, 0, MaxPort, MaxPort+1)
	}
	return 8000 + roll(t, 9)
}

func drawPutNode(t *rapid.T, id string) Command {
	addr := "10.0.0." + id[1:]
	if roll(t, 4) == 0 {
		addr = oneOf(t, "10.0.0.1", "10.0.0.2", "10.0.0.9", "")
	}
	n := Node{ID: id, Addr: addr, RaftAddr: addr + ":7481", APIAddr: addr + ":7480", Version: oneOf(t, "1", "2")}
	if addr == "" {
		n.RaftAddr = ""
	}
	return PutNode{Node: n}
}

// rowCommand draws what may come next for a row, or anything at all.
func rowCommand(t *rapid.T, s *State, c Container) Command {
	r := c.Row()
	r.Seen = older(t, r.Seen)
	r.Generation += uint64(oneOf(t, 0, 0, 0, 0, 0, 0, 0, 1))
	observe := func(of ...Phase) func() Command {
		return func() Command {
			return Observe{
				Node: oneOf(t, c.Node, c.Node, c.Node, "n1"), Service: c.Service, Number: c.Number, Generation: r.Generation,
				Created: oneOf(t, 0, c.Created, c.Created, c.Created-1), Phase: oneOf(t, of...),
				LocalAddr: oneOf(t, "", "172.17.0.2:8000"), PortTaken: roll(t, 6) == 0, Reason: reason(t),
			}
		}
	}
	healthy := func() Command {
		return SetStatus{Row: r, Status: oneOf(t, !c.Status, !c.Status, c.Status), Reason: reason(t)}
	}
	relaunch := func() Command {
		return Relaunch{Row: r, Node: oneOf(t, c.Node, oneOf(t, drawnNodes...)), Port: oneOf(t, c.Port, c.Port, drawnPort(t)), Failures: roll(t, 5), Reason: reason(t)}
	}
	backOff := func() Command {
		return BackOff{Row: r, RetryAt: s.Stamp + 1000, Failures: roll(t, 5), Reason: reason(t)}
	}
	drain := func() Command { return Drain{Row: r, Deadline: s.Stamp + 1000, Reason: reason(t)} }
	renew := func() Command {
		sv, _ := s.Service(c.Service)
		return Renew{Row: r, Node: oneOf(t, c.Node, oneOf(t, drawnNodes...)), Build: older(t, sv.Newest().Build), Deadline: s.Stamp + 1000, Reason: reason(t)}
	}
	stop := func() Command { return Stop{Row: r, Reason: reason(t)} }
	forget := func() Command { return Forget{Row: r, Reason: reason(t)} }
	anything := observe(Pending, Starting, Running, Stopped, Draining, "odd")
	next := []func() Command{observe(Starting, Running, Stopped), anything, healthy, relaunch, backOff, drain, renew, stop, forget}
	switch {
	case roll(t, 4) == 0:
	case c.Desired != Running:
		next = []func() Command{observe(Stopped), stop, stop, forget}
	case c.Observed == Running:
		next = []func() Command{healthy, healthy, healthy, drain, renew, renew, relaunch, observe(Running, Stopped)}
	case c.Observed == Stopped:
		next = []func() Command{relaunch, relaunch, backOff, drain, renew, stop}
	default:
		next = []func() Command{observe(Starting, Running, Running, Running, Stopped)}
	}
	return oneOf(t, next...)()
}

// drawTakeTurns is mostly the node's next run, else one it took already (also with
// another count or report), one from before, or the first of its next life.
func drawTakeTurns(t *rapid.T, s *State, service, node string) Command {
	l, _ := s.Lease(service, node)
	c := TakeTurns{Service: service, Node: node, Epoch: max(l.Epoch, 1), Seq: l.Seq + 1, Count: uint64(roll(t, 40)), Served: uint64(roll(t, 20))}
	switch roll(t, 10) {
	case 0, 1:
		c.Seq, c.Count = l.Seq, l.Count
	case 2:
		c.Seq = l.Seq
	case 3:
		c.Seq = l.Seq - min(l.Seq, 1)
	case 4:
		c.Epoch, c.Seq = c.Epoch+1, 1
	case 5:
		c.Epoch--
	}
	return c
}

// drawLog draws a log beside the states it leads through; states[i] is before entry
// i. Half of the logs begin with a cluster that serves.
func drawLog(t *rapid.T) (log []entry, states []*State) {
	s, stamp := &State{}, int64(1_000_000)
	apply := func(c Command) {
		e := entry{stamp, c}
		log, states = append(log, e), append(states, s)
		s, _, _ = Apply(s, uint64(len(log)), 1, e.stamp, e.cmd)
	}
	if roll(t, 2) == 0 {
		for _, id := range drawnNodes[:3] {
			apply(drawPutNode(t, id))
		}
		apply(PutService{Spec: drawnSpec(t, "acts")})
		for i, id := range drawnNodes[:3] {
			apply(Place{Service: "acts", Number: i + 1, Node: id, Port: 8000 + i})
		}
	}
	for range 20 + roll(t, 100) {
		stamp += int64(roll(t, 1500) - 50)
		if roll(t, 40) == 0 {
			stamp += 100_000
		}
		apply(command(t, s))
	}
	return log, append(states, s)
}
