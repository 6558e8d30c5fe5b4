package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// ErrMember means that a change of members cannot be made as asked.
var ErrMember = errors.New("change of members refused")

// Member is one server of the newest configuration, which may not be committed.
type Member struct {
	ID     string
	Addr   string
	Voter  bool
	Leader bool
}

// Members returns the cluster as this node knows it; empty where it is in none.
func (n *Node) Members() ([]Member, error) {
	f := n.raft.Load().GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	leader, _ := n.Leader()
	var all []Member
	for _, s := range f.Configuration().Servers {
		all = append(all, Member{
			ID: string(s.ID), Addr: string(s.Address),
			Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == leader,
		})
	}
	return all, nil
}

func (n *Node) member(id string) (m Member, ok bool, err error) {
	all, err := n.Members()
	if err != nil {
		return m, false, err
	}
	for _, m := range all {
		if m.ID == id {
			return m, true, nil
		}
	}
	return m, false, nil
}

// Changes of members are compared with the newest configuration, committed or
// not: one that is under way counts as done. A caller that wants to be sure looks
// again after a Barrier.

// AddNonvoter adds a node that receives the log and has no vote, or moves it to
// a new address. A voter keeps its vote. Doing it twice is doing it once.
func (n *Node) AddNonvoter(ctx context.Context, id, addr string) error {
	return n.add(ctx, id, addr, false)
}

// AddVoter gives a node its vote, adding it or moving it to a new address when
// need be. Doing it twice is doing it once.
func (n *Node) AddVoter(ctx context.Context, id, addr string) error {
	return n.add(ctx, id, addr, true)
}

func (n *Node) add(ctx context.Context, id, addr string, voter bool) error {
	all, err := n.Members()
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Addr == addr && m.ID != id {
			return fmt.Errorf("%w: %s is the address of node %s; remove that one first, or give %s another --raft-addr", ErrMember, addr, m.ID, id)
		}
		if m.ID == id && m.Addr == addr && m.Voter == (m.Voter || voter) && n.leading.Load() {
			return nil
		}
	}
	err = n.await(ctx, func(r *raft.Raft) raft.Future {
		if voter {
			return r.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueLimit)
		}
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, enqueueLimit)
	})
	if err != nil {
		return fmt.Errorf("add node %s: %w", id, err)
	}
	return nil
}

// Remove takes a node out of the cluster; one that is not in it is success. The
// last voter cannot be removed. Whether a quorum of the rest is alive is for
// the caller to know.
func (n *Node) Remove(ctx context.Context, id string) error {
	all, err := n.Members()
	if err != nil {
		return err
	}
	found, others := false, 0
	for _, m := range all {
		if m.ID == id {
			found = true
		} else if m.Voter {
			others++
		}
	}
	switch {
	case !n.leading.Load():
		return fmt.Errorf("remove node %s: %w", id, ErrNotLeader)
	case !found:
		return nil
	case others == 0:
		return fmt.Errorf("%w: %s is the last voter; a cluster without one can decide nothing", ErrMember, id)
	}
	err = n.await(ctx, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, enqueueLimit)
	})
	if err != nil {
		return fmt.Errorf("remove node %s: %w", id, err)
	}
	return nil
}

// Transfer hands leadership to a voter, or to the one whose log is newest when
// to is "". It returns when Raft has stepped down; Leadership says so right after.
func (n *Node) Transfer(ctx context.Context, to string) error {
	if !n.leading.Load() {
		return fmt.Errorf("transfer leadership: %w", ErrNotLeader)
	}
	all, err := n.Members()
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(all, func(m Member) bool { return !m.Voter || m.ID == n.cfg.ID })
	if len(others) == 0 {
		return fmt.Errorf("%w: there is no other voter to lead", ErrMember)
	}
	var addr string
	if to != "" {
		i := slices.IndexFunc(others, func(m Member) bool { return m.ID == to })
		if i < 0 {
			return fmt.Errorf("%w: leadership cannot go to %q; name another voter (orchctl nodes lists them)", ErrMember, to)
		}
		addr = others[i].Addr
	}
	err = n.await(ctx, func(r *raft.Raft) raft.Future {
		if to == "" {
			return r.LeadershipTransfer()
		}
		return r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(addr))
	})
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}
