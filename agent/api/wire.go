// Package api is the HTTP API of a node: what orchctl speaks, and what nodes say to
// each other. It owns the JSON that scripts rely on, the mapping of refusals to codes
// and back, and the way to the leader.
//
// It promises that a write is forwarded at most once, that every error has one shape
// and says what to do next, and that no body or wait is without a limit. It decides
// nothing: it asks the node that it is given.
package api

import (
	"fmt"
	"time"

	"orch/fsm"
)

// Row is a container as `ps` shows it.
type Row struct {
	Service    string    `json:"service"`
	Number     int       `json:"number"`
	Node       string    `json:"node"`
	Addr       string    `json:"addr"` // node address:port
	Port       int       `json:"port"`
	Status     bool      `json:"status"`
	Turn       int       `json:"turn"` // 1 on the row whose turn it is
	Generation uint64    `json:"generation"`
	Phase      fsm.Phase `json:"phase"`
	Image      string    `json:"image"`
	Reason     string    `json:"reason"`
}

// NodeInfo is a node as `nodes` shows it.
type NodeInfo struct {
	ID           string         `json:"id"`
	Addr         string         `json:"addr"`
	ProxyAddr    string         `json:"proxy_addr"`
	Role         string         `json:"role"` // leader, voter or nonvoter
	Status       fsm.NodeStatus `json:"status"`
	AppliedIndex uint64         `json:"applied_index"`
	Version      string         `json:"version"`
}

// Status is the state of the cluster as one node knows it.
type Status struct {
	ClusterID   string          `json:"cluster_id"`
	Leader      string          `json:"leader"` // empty when there is none
	Term        uint64          `json:"term"`
	CommitIndex uint64          `json:"commit_index"`
	Quorum      bool            `json:"quorum"`
	TurnMode    string          `json:"turn_mode"` // leased, exact or local
	Services    []ServiceStatus `json:"services"`
	Nodes       []NodeInfo      `json:"nodes"`
	Pending     []Pending       `json:"pending"`
	Impaired    []Impairment    `json:"impaired"`
}

// ServiceStatus is a service as `status` shows it.
type ServiceStatus struct {
	Name             string `json:"name"`
	Desired          int    `json:"desired"`
	Healthy          int    `json:"healthy"`
	Min              int    `json:"min"`
	Max              int    `json:"max"`
	Turn             uint64 `json:"turn"`
	RequestsInWindow uint64 `json:"requests_in_window"`
	ScaleReason      string `json:"scale_reason"`
}

// Pending is something that will happen by itself.
type Pending struct {
	What    string `json:"what"`
	Reason  string `json:"reason"`
	DueInMS int64  `json:"due_in_ms"`
}

// Impairment is a part of the answering node that does not work as it should.
type Impairment struct {
	What    string    `json:"what"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since,omitzero"` // zero where it is not known
	Meaning string    `json:"meaning"`        // what goes on, and what to do
}

// Event is a line of `events`.
type Event struct {
	Index   uint64    `json:"index"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Service string    `json:"service"`
	Number  int       `json:"number"`
	Node    string    `json:"node"`
	Reason  string    `json:"reason"`
	By      string    `json:"by,omitempty"` // who asked for it; empty for the cluster itself
}

// Report is what a node tells the leader of itself.
type Report struct {
	Node         string `json:"node"`
	AppliedIndex uint64 `json:"applied_index"`
	ServingIndex uint64 `json:"serving_index"`
	InFlight     []Load `json:"in_flight"`
	Version      string `json:"version"`
	// The newest entry on its disk, committed or not.
	LastTerm  uint64 `json:"last_term"`
	LastIndex uint64 `json:"last_index"`
	// TrustIndex is the version of CAs and gossip keys that the node uses.
	TrustIndex uint64 `json:"trust_index"`
	// Fenced: its disk takes no writes, so that it acknowledges nothing.
	Fenced bool `json:"fenced,omitempty"`
	// NoLeader: it has heard no leader for longer than an election takes; where there is
	// one, its Raft port is shut, and it acknowledges nothing either.
	NoLeader bool `json:"no_leader,omitempty"`
	// Leader is whom its Raft follows at the moment, empty for nobody.
	Leader string `json:"leader,omitempty"`
}

// Load is the number of requests a node has in flight on a row.
type Load struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	InFlight   int    `json:"in_flight"`
}

// RowRef names a generation of a row.
type RowRef struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
}

// Admission is what a joining node is told.
type Admission struct {
	ClusterID string     `json:"cluster_id"`
	Nodes     []fsm.Node `json:"nodes"`
	Epoch     uint64     `json:"epoch,omitempty"` // number of the newest recovery of the cluster
	// Token lets further nodes in; init alone says it.
	Token JoinToken `json:"token,omitzero"`
}

// Rows turns a view into what `ps` shows, sorted by service and number.
func Rows(v *fsm.State) []Row {
	rows := make([]Row, 0, len(v.Containers))
	for _, c := range v.Containers {
		n, _ := v.Node(c.Node)
		r := Row{
			Service: c.Service, Number: c.Number, Node: c.Node, Addr: fmt.Sprintf("%s:%d", n.Addr, c.Port), Port: c.Port,
			Status: c.Status, Generation: c.Generation, Phase: c.Phase(), Image: c.Image, Reason: c.Reason,
		}
		if t, ok := v.TurnRow(c.Service); ok && t.Number == c.Number {
			r.Turn = 1
		}
		rows = append(rows, r)
	}
	return rows
}

// Services turns a view into the services of `status`; now is a stamp in ms.
func Services(v *fsm.State, now int64) []ServiceStatus {
	out := make([]ServiceStatus, 0, len(v.Services))
	for _, s := range v.Services {
		window := time.Duration(s.Spec.Scale.Window).Milliseconds()
		out = append(out, ServiceStatus{
			Name: s.Name, Desired: s.Decision.Desired, Healthy: len(v.Rotation(s.Name)), Min: s.Spec.Scale.Min, Max: s.Spec.Scale.Max,
			Turn: s.Turn, RequestsInWindow: s.Requests(now, window), ScaleReason: s.Decision.Reason,
		})
	}
	return out
}

func event(e fsm.Event) Event {
	return Event{Index: e.Index, At: time.UnixMilli(e.At).UTC(), Kind: e.Kind, Service: e.Service, Number: e.Number, Node: e.Node, Reason: e.Reason, By: e.By}
}
