package consensus

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Machine is the replicated state. Apply, Snapshot and Restore are called by one
// goroutine, in the order of the log; the function that Snapshot returns runs
// beside later Applies.
type Machine interface {
	// Apply returns what Propose gets. An error is a refusal: Propose returns
	// it as its error, and the command has changed nothing.
	Apply(index, term uint64, data []byte) any
	// Snapshot is cheap; the function it returns writes the state of now.
	Snapshot() func(w io.Writer) error
	// Restore builds the new state beside the old one and then swaps them, so
	// that a reader never sees half of it and an error changes nothing.
	Restore(r io.Reader) error
}

var errReplaying = errors.New("the log is being replayed")

// machine makes a Machine of ours a raft.FSM, and keeps it whole when Raft is
// started anew inside the process: entries that it has seen are not applied
// again.
type machine struct {
	Machine
	applied  atomic.Uint64 // newest command in the state since the last Restore
	replayed atomic.Uint64 // newest command that this run of Raft has handed over
}

func (m *machine) Apply(l *raft.Log) any {
	m.replayed.Store(l.Index)
	if l.Index <= m.applied.Load() {
		return nil
	}
	result := m.Machine.Apply(l.Index, l.Term, l.Data)
	m.applied.Store(l.Index)
	return result
}

// Snapshot refuses while a fresh Raft replays old entries: it would label the
// state of now with an old index, and a restart would apply the rest twice.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if m.replayed.Load() < m.applied.Load() {
		return nil, errReplaying
	}
	return machineSnapshot(m.Machine.Snapshot()), nil
}

// Restore is called by Raft with a snapshot whose checksum has been verified.
func (m *machine) Restore(r io.ReadCloser) error { return m.load(r) }

func (m *machine) load(r io.Reader) error {
	if err := m.Machine.Restore(r); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	m.applied.Store(0)
	return nil
}

type machineSnapshot func(io.Writer) error

// Persist removes what it has written where it fails: RecoverCluster would leave it, on a
// disk that may be full.
func (s machineSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return nil
}

// Release has nothing to do: the state is copied on write.
func (s machineSnapshot) Release() {}
