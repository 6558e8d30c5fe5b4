package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// TestReadyOnlyWhenCaughtUp: a node without a quorum serves from its last view, says what
// is impaired since when, and is ready when it has its cluster again.
func TestReadyOnlyWhenCaughtUp(t *testing.T) {
	nodes := together(t, "n1", "n2")
	one, two := nodes[0], nodes[1]
	one.until("ready", one.ready)
	two.until("ready", two.ready)
	two.stop()
	one.stop()
	one.start()
	one.until("it serves from its last view", func(context.Context) error {
		c, err := net.Dial("tcp", one.cfg.ProxyAddr)
		if err == nil {
			c.Close()
		}
		return err
	})
	var s api.Status
	one.until("it says what is impaired", func(ctx context.Context) (err error) {
		if s, err = one.Status(ctx); err == nil && impairment(s, "gossip").What == "" {
			err = errors.New("gossip is not impaired")
		}
		return err
	})
	if i := impairment(s, "no leader"); i.Since.IsZero() || !strings.Contains(i.Reason, "n2 ") {
		t.Errorf("%+v", s.Impaired)
	}
	if i := impairment(s, "gossip"); i.Since.IsZero() {
		t.Errorf("%+v", i)
	}
	one.until("it reports that it hears no leader", func(ctx context.Context) error {
		if r, err := one.Report(ctx); err != nil || !r.NoLeader {
			return fmt.Errorf("%+v, %v", r, err)
		}
		return nil
	})
	for _, p := range s.Pending {
		if p.DueInMS != 0 || !strings.Contains(p.Reason, "waits for a leader") {
			t.Errorf("without a leader: %+v", p)
		}
	}
	if err := one.ready(t.Context()); err == nil {
		t.Error("ready before it has caught up")
	}
	two.start()
	one.until("ready", one.ready)
	two.until("ready", two.ready)
	if s, err := one.Status(t.Context()); err != nil || impairment(s, "no leader").What != "" {
		t.Errorf("%v: %+v", err, s.Impaired)
	}
	if r, err := one.Report(t.Context()); err != nil || r.NoLeader {
		t.Errorf("%v: %+v", err, r)
	}
}

func impairment(s api.Status, what string) api.Impairment {
	for _, i := range s.Impaired {
		if i.What == what {
			return i
		}
	}
	return api.Impairment{}
}

// TestNewNameAtAnOldAddress: a machine that was lost is set up anew under another name,
// before anybody has removed the old one, or knows that it is dead; while it is alive its
// address is refused at once. The new name is first by the alphabet, and last.
func TestNewNameAtAnOldAddress(t *testing.T) {
	nodes := together(t, "n1", "n2", "n3")
	one, old := nodes[0], nodes[2]
	token, err := one.JoinToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, fresh := range []string{"n0", "n9"} {
		id := old.cfg.NodeID
		if err := claims(t, fresh, old.cfg).admitted(one.cfg.APIAddr, token.Token); !errors.Is(err, fsm.ErrAddrInUse) || !strings.Contains(err.Error(), "node "+id) {
			t.Errorf("%s at the address of %s, which is alive: %v", fresh, id, err)
		}
		old.stop()
		d := begin(t, fresh, old.cfg.Addr)
		if _, err := d.Join(t.Context(), one.cfg.APIAddr, token.Token); err != nil {
			t.Fatal(err)
		}
		d.until("ready", d.ready)
		one.shows(fresh, func(n api.NodeInfo) bool { return n.Role == "voter" && n.Status == fsm.NodeAlive && n.AppliedIndex > 0 })
		one.shows(id, func(n api.NodeInfo) bool { return n.Role == "nonvoter" && n.Status == fsm.NodeDead })
		nodes[1].shows(fresh, func(n api.NodeInfo) bool { return n.Role == "voter" })
		old = d
	}
}

// claimant asks to be let in at an address that it can not even listen on.
type claimant struct {
	*Node
	t *testing.T
}

func claims(t *testing.T, id string, at Config) claimant {
	t.Helper()
	f := open(t, filepath.Join(t.TempDir(), "d"))
	t.Cleanup(func() { f.Close() })
	at.NodeID = id
	log := slog.New(slog.DiscardHandler)
	return claimant{&Node{cfg: at, folder: f, log: log, trust: newTrust(id, f, fsm.NewStore().View, log)}, t}
}

func (c claimant) admitted(addr, token string) error {
	c.t.Helper()
	k, err := pki.ParseToken(token)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, err = c.untilAdmitted(ctx, addr, k)
	return err
}

// TestLeaveOutlivesARestart: a node that was down while it was to leave goes on with that
// when it is up again, and ends, also where it has left meanwhile and knows nothing of it.
func TestLeaveOutlivesARestart(t *testing.T) {
	nodes := together(t, "n1", "n2", "n3")
	one, three := nodes[0], nodes[2]
	asThree := three.asNode(one)
	three.stop()
	one.shows("n3", func(n api.NodeInfo) bool { return n.Status == fsm.NodeDead })
	one.until("it is to leave", func(ctx context.Context) error {
		v, err := asThree.Table(ctx)
		if err != nil {
			return err
		}
		n, _ := v.Node("n3")
		_, err = asThree.Propose(ctx, fsm.SetNodeStatus{ID: "n3", Seen: n.Index, Status: fsm.NodeDraining, Reason: "it was told to leave", By: "root on n3"})
		return err
	})
	// It is called dead before the leader looks for who may go, unless both looks fall apart.
	one.shows("n3", func(n api.NodeInfo) bool { return n.Status == fsm.NodeDead || n.Status == fsm.NodeLeft })
	for _, when := range []string{"on its way", "when it has left"} {
		three.ends(when)
		if n, err := one.node(t.Context(), "n3"); err != nil || n.Status != fsm.NodeLeft {
			t.Errorf("%s: %+v, %v", when, n, err)
		}
		aside, err := filepath.Glob(filepath.Join(three.cfg.DataDir, "left-*", "*"))
		if err != nil || len(aside) < 2 {
			t.Fatalf("%s: its data are not set aside: %v, %v", when, aside, err)
		}
		for _, path := range aside { // as if it had not heard of it
			if err := os.Rename(path, filepath.Join(three.cfg.DataDir, filepath.Base(path))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// ends runs a node that is stopped, until it ends by itself.
func (d *daemon) ends(when string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := Run(ctx, d.life()); err != nil || ctx.Err() != nil {
		d.t.Fatalf("%s: %s it does not end by itself: %v, %v", d.cfg.NodeID, when, err, ctx.Err())
	}
}

// TestRemoveByForce of the leader of a pair goes through, for the other can decide alone
// then; it is refused where the others are no majority.
func TestRemoveByForce(t *testing.T) {
	nodes := together(t, "n1", "n2", "n3")
	one, two, three := nodes[0], nodes[1], nodes[2]
	three.stop()
	one.shows("n3", func(n api.NodeInfo) bool { return n.Status == fsm.NodeDead })
	_, err := one.RemoveNode(t.Context(), "n2", true)
	if err == nil || !strings.Contains(err.Error(), "n3 is dead") || !strings.Contains(err.Error(), "orchctl recover") {
		t.Fatalf("%v", err)
	}
	if _, err := one.RemoveNode(t.Context(), "n3", false); err != nil {
		t.Fatal(err)
	}
	one.until("two are left", func(ctx context.Context) error {
		nodes, err := one.Nodes(ctx)
		if err == nil && len(nodes) != 2 {
			err = fmt.Errorf("%+v", nodes)
		}
		return err
	})
	one.until("the other leads", func(ctx context.Context) error {
		if err := one.Transfer(ctx, "n2"); err != nil {
			return err
		}
		n, err := one.node(ctx, "n2")
		if err == nil && n.Role != "leader" {
			err = fmt.Errorf("%+v", n)
		}
		return err
	})
	one.until("n2 is out, once Raft has let n3 go", func(ctx context.Context) error {
		_, err := one.RemoveNode(ctx, "n2", true)
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := one.NewJoinToken(ctx, time.Hour, 1); err != nil {
		t.Errorf("it decides nothing any more: %v", err)
	}
	two.until("it has gone", func(ctx context.Context) error {
		if two.Healthy(ctx) == nil {
			return errors.New("it runs")
		}
		return nil
	})
	// One that was removed while it was down knows of two who are lost, and of n1, which
	// refuses it: that is no loss.
	three.start()
	three.until("it is not recovered against those who go on", func(ctx context.Context) error {
		p, err := three.Recovery(ctx)
		if err == nil && !strings.Contains(p.Refused, "node n1 answers that this node has left") {
			err = fmt.Errorf("%q", p.Refused)
		}
		return err
	})
}

// asNode asks another node as this one does.
func (d *daemon) asNode(other *daemon) *api.Client {
	d.t.Helper()
	s, err := d.Status(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := (&folder{dir: d.cfg.DataDir}).credentials(s.ClusterID)
	if err != nil {
		d.t.Fatal(err)
	}
	keys := newTrust(d.cfg.NodeID, nil, func() *fsm.State { return &fsm.State{} }, nil)
	keys.live.Set(c)
	client := api.NewClient(other.cfg.APIAddr, &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return keys.conns.Dial(ctx, addr, keys.live.Client(other.cfg.NodeID, nil))
	}})
	d.t.Cleanup(client.Close)
	return client
}

// TestRemoveByForceCutShort between the vote and the table: the same command finishes it,
// also where the roll has taken the node in again meanwhile.
func TestRemoveByForceCutShort(t *testing.T) {
	for name, wait := range map[string]bool{"at once": false, "after the roll": true} {
		t.Run(name, func(t *testing.T) {
			nodes := together(t, "n1", "n2", "n3")
			one, two := nodes[0], nodes[1]
			one.until("the vote is taken, and no more", func(ctx context.Context) error { return two.asNode(one).TakeVote(ctx, "n3") })
			if wait {
				one.shows("n3", func(n api.NodeInfo) bool { return n.Role == "voter" })
			}
			two.until("it is finished", func(ctx context.Context) error { _, err := two.RemoveNode(ctx, "n3", true); return err })
			one.until("two are left, who can decide", func(ctx context.Context) error {
				nodes, err := one.Nodes(ctx)
				if err == nil && len(nodes) != 2 {
					return fmt.Errorf("%+v", nodes)
				}
				_, err2 := one.NewJoinToken(ctx, time.Hour, 1)
				return errors.Join(err, err2)
			})
		})
	}
}
