package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Refusals are definite: the command is not in the log and never will be.
var (
	ErrNotLeader = errors.New("this node is not the leader")
	ErrFenced    = errors.New("this node is fenced: its disk does not take writes")
	ErrTooLarge  = errors.New("command is too large")
	ErrBusy      = errors.New("too many commands wait for this leader")
	ErrClosed    = errors.New("this node's consensus is closed")
)

// ErrUnknown means perhaps: the command may be applied now, later or never. Read
// the state again and propose again; commands are made so that twice is once.
var ErrUnknown = errors.New("outcome unknown: it may have been done, or be done later")

// What Open and Bootstrap refuse. Nothing has been touched when they do.
var (
	ErrCorrupt  = errors.New("data folder is damaged")
	ErrInUse    = errors.New("data folder is in use")
	ErrHasState = errors.New("data folder already belongs to a cluster")
)

// outcome folds the errors of a Raft future into the ones above.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w any more: leadership is being handed over", ErrNotLeader)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: it took none in %v", ErrBusy, enqueueLimit)
	default:
		// ErrLeadershipLost, ErrRaftShutdown, ErrAbortedByRestore and whatever
		// a store says: the entry may be on a disk from which it comes back.
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

// gaveUp is the outcome for a caller that stopped waiting.
func gaveUp(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
}
