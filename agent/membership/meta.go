package membership

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// ErrMeta means that a node's metadata does not fit into a gossip message.
var ErrMeta = errors.New("node metadata is too large")

// Meta is what a node tells the others of itself. It travels with every word
// about the node: addresses and a version, nothing that changes by itself.
type Meta struct {
	API     string `json:"a,omitempty"` // host:port of the node's API
	Raft    string `json:"r,omitempty"` // host:port of its Raft
	Proxy   string `json:"p,omitempty"` // host:port of its proxy
	Version string `json:"v,omitempty"` // of its program
	Epoch   uint64 `json:"e,omitempty"` // number of the newest recovery of the cluster that the node is of
}

// wireMeta is Meta as it travels.
type wireMeta struct {
	Meta
	// Leaving goes out before the node leaves: memberlist tells its user that
	// a node is gone, but not whether it said good-bye.
	Leaving bool `json:"l,omitempty"`
}

// encode refuses what memberlist would panic on.
func (m wireMeta) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode node metadata: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d; shorten the addresses", ErrMeta, len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// decodeMeta reads what another node said. Garbage is no metadata: an address
// that is missing is one that nobody dials.
func decodeMeta(b []byte) wireMeta {
	var m wireMeta
	if json.Unmarshal(b, &m) != nil {
		return wireMeta{}
	}
	return m
}
