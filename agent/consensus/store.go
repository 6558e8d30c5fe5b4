package consensus

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what raft-boltdb gives: the log and the few durable values of Raft.
type disk interface {
	raft.LogStore
	raft.StableStore
}

// Keys under which hashicorp/raft keeps its durable values.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// logStore is the log behind the fence, with its writes timed.
type logStore struct {
	disk
	fence *fence
	pace  *pace
	// replaced is the term of the entry at index where a snapshot ends with it.
	replaced func(index uint64) (term uint64, ok bool)
}

// replacedEntry is the type of an entry of which only index and term are known. A
// follower compares those; it is never applied, stored or sent.
const replacedEntry raft.LogType = 0xff

// GetLog also knows the term of the entry that the newest snapshot ends with, which a
// follower that was sent the snapshot never had. Without that, an entry behind the snapshot
// that comes a second time (its answer was lost) is refused, for what precedes it is not
// found, and so is everything after it until the leader makes another snapshot.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	err := s.disk.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) {
		if term, ok := s.replaced(index); ok {
			*l = raft.Log{Index: index, Term: term, Type: replacedEntry}
			return nil
		}
	}
	return err
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *logStore) StoreLogs(logs []*raft.Log) error {
	start := time.Now()
	err := s.fence.guard("append to raft.db", func() error { return s.disk.StoreLogs(logs) })
	// What the fence has dealt with is no sign of the disk's usual pace.
	if d := time.Since(start); d < s.fence.stall {
		s.pace.observe(d)
	}
	return err
}

// compactBatch bounds how many entries one transaction removes: appends wait
// behind it, and 2,000 take about 10 ms.
const compactBatch = 2000

// DeleteRange removes entries. Cutting off a conflicting end is part of Raft's
// promises and is guarded; compaction of the old end may fail and be repeated.
func (s *logStore) DeleteRange(first, last uint64) error {
	if newest, err := s.disk.LastIndex(); err == nil && last < newest {
		for ; first <= last; first += compactBatch {
			if err := s.disk.DeleteRange(first, min(first+compactBatch-1, last)); err != nil {
				return err
			}
		}
		return nil
	}
	return s.fence.guard("cut raft.db", func() error { return s.disk.DeleteRange(first, last) })
}

// stableStore is term and vote behind the fence. It never fails while it
// matters: Raft panics where it cannot save its term, and after the seal
// nothing that rests on an unsaved term can leave the process.
type stableStore struct {
	disk
	fence *fence

	mu       sync.Mutex
	voteTerm uint64 // told, but not yet written
	hasVote  bool
}

// SetUint64 holds the term of a vote back until its candidate comes: Raft saves
// the two one after the other, term first, and a crash in between would leave
// the new term with the old candidate (hashicorp/raft#661).
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	if string(key) == keyLastVoteTerm {
		s.mu.Lock()
		s.voteTerm, s.hasVote = val, true
		s.mu.Unlock()
		return nil
	}
	// A starting Raft saves the term that it has just read. Skipping that keeps
	// a folder untouched until there is something to say.
	if old, err := s.disk.GetUint64(key); (err == nil && old == val) || (err != nil && val == 0) {
		return nil
	}
	s.save("save the term in raft.db", func() error { return s.disk.SetUint64(key, val) })
	return nil
}

// Set writes a vote's candidate first and its term second: after a crash in
// between, the pair names a term that is over, and no vote is given for it.
func (s *stableStore) Set(key, val []byte) error {
	s.save("save the vote in raft.db", func() error { return s.disk.Set(key, val) })
	if string(key) != keyLastVoteCand {
		return nil
	}
	s.mu.Lock()
	term, ok := s.voteTerm, s.hasVote
	s.hasVote = false
	s.mu.Unlock()
	if ok {
		s.save("save the vote in raft.db", func() error { return s.disk.SetUint64([]byte(keyLastVoteTerm), term) })
	}
	return nil
}

func (s *stableStore) save(what string, write func() error) {
	// The error of a sealed fence is dropped: see the type's comment.
	_ = s.fence.guard(what, write)
}
