package api

import (
	"context"
	"net/http"
)

// Recovery is what a node holds of a cluster that has lost its quorum, and what
// recovering it here would mean.
type Recovery struct {
	ClusterID string     `json:"cluster_id"`
	Node      string     `json:"node"`   // the one that is asked
	Leader    string     `json:"leader"` // empty: there is none, which is why one recovers
	Epoch     uint64     `json:"epoch"`  // number of the newest recovery, 0 before the first; a later one has a higher
	Holds     Holding    `json:"holds"`
	Members   []Survivor `json:"members"` // the others that have or had a vote, or were to get one
	Services  int        `json:"services"`
	Rows      int        `json:"rows"`
	// Refused says why it can not be done here, and what to do; empty where it can.
	Refused string `json:"refused"`
}

// Holding is the newest entry on a node's disk.
type Holding struct {
	Term    uint64 `json:"term"`
	Index   uint64 `json:"index"`
	Applied uint64 `json:"applied_index"`
}

// Less says whether h is behind o: of two logs the one with the newer term is ahead.
func (h Holding) Less(o Holding) bool {
	return h.Term < o.Term || h.Term == o.Term && h.Index < o.Index
}

// Survivor is another member; it survives where it answers.
type Survivor struct {
	ID      string  `json:"id"`
	Addr    string  `json:"addr"` // of its Raft
	Voter   bool    `json:"voter"`
	Answers bool    `json:"answers"`
	Holds   Holding `json:"holds"`
	Leader  string  `json:"leader,omitempty"` // whom it follows; then there may be a quorum that this node does not hear
}

// RecoverOrder makes a cluster of the survivors. It names what the person who gives it
// has seen, and is refused where that has changed.
type RecoverOrder struct {
	ClusterID string `json:"cluster_id"`
	Term      uint64 `json:"term"`
	Index     uint64 `json:"index"`
}

// FollowOrder has a survivor set its log aside and wait for the recovered cluster.
type FollowOrder struct {
	ClusterID string `json:"cluster_id"`
	Node      string `json:"node"` // that was recovered
	Epoch     uint64 `json:"epoch"`
}

// Recoverer makes a cluster again whose quorum is lost for good.
type Recoverer interface {
	Recovery(ctx context.Context) (Recovery, error)
	// Recover refuses what must not be recovered within ctx; what it has begun it brings
	// to an end, also after that.
	Recover(ctx context.Context, o RecoverOrder, by string) (Recovery, error)
	// Follow is asked by the node that was recovered.
	Follow(ctx context.Context, o FollowOrder) error
}

func (s *Server) recovery(w http.ResponseWriter, r *http.Request) {
	p, err := s.node.Recovery(r.Context())
	reply(w, p, err)
}

func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	var o RecoverOrder
	if err := read(w, r, &o); err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout) // for the questions that come first
	defer cancel()
	p, err := s.node.Recover(ctx, o, s.by(r))
	reply(w, p, err)
}

func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	var o FollowOrder
	if err := read(w, r, &o); err != nil {
		fail(w, err)
		return
	}
	reply(w, struct{}{}, s.node.Follow(r.Context(), o))
}

// Recovery says what the node holds and what recovering it would mean.
func (c *Client) Recovery(ctx context.Context) (p Recovery, err error) {
	return p, c.call(ctx, http.MethodGet, "/v1/recover", nil, &p)
}

// Recover makes a cluster of the survivors.
func (c *Client) Recover(ctx context.Context, o RecoverOrder) (p Recovery, err error) {
	return p, c.call(ctx, http.MethodPost, "/v1/recover", o, &p)
}

// Follow has a survivor follow the node that was recovered.
func (c *Client) Follow(ctx context.Context, o FollowOrder) error {
	return c.call(ctx, http.MethodPost, "/v1/node/follow", o, nil)
}
