package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Kind numbers a command in the log. Numbers are given by hand, once, and never
// change or return: logs of every release must stay readable.
type Kind uint8

// The command table.
const (
	KindInitCluster   Kind = 1
	KindPutNode       Kind = 2
	KindSetNodeStatus Kind = 3
	KindRemoveNode    Kind = 4
	KindPutService    Kind = 5
	KindRemoveService Kind = 6
	KindScaleByHand   Kind = 7
	KindDecide        Kind = 8
	KindPlace         Kind = 9
	KindSetStatus     Kind = 10
	KindRelaunch      Kind = 11
	KindBackOff       Kind = 12
	KindDrain         Kind = 13
	KindStop          Kind = 14
	KindForget        Kind = 15
	KindObserve       Kind = 16
	KindTakeTurns     Kind = 17
	KindNote          Kind = 18
)

// commandVersion is the version byte of every command of this release. A node
// that meets a higher one stops: it would diverge if it guessed.
const commandVersion = 1

// MaxCommand is the longest encoded command, in bytes. Raft copies an entry to
// every follower in one message; 64 KiB keeps heartbeats from waiting behind it.
const MaxCommand = 64 << 10

// Command is one change of the state.
type Command interface {
	Kind() Kind
	apply(*draft) (any, error)
}

// InitCluster is the first command of every log; it gives the cluster its ID.
type InitCluster struct {
	ClusterID string `json:"cluster_id"`
}

// PutNode adds a node, which becomes alive, or changes its addresses or version.
// One that had left is alive again; one that is dead is so once the leader sees it.
type PutNode struct {
	Node Node `json:"node"`
}

// SetNodeStatus records what the leader believes of a node.
type SetNodeStatus struct {
	ID     string     `json:"id"`
	Seen   uint64     `json:"seen"` // Node.Index
	Status NodeStatus `json:"status"`
	Reason string     `json:"reason,omitempty"`
}

// RemoveNode takes a node without containers out of the table.
type RemoveNode struct {
	ID string `json:"id"`
}

// PutService adds a service or replaces its spec. Seen is the Service.Index it
// was made from, 0 for whatever there is.
type PutService struct {
	Spec Spec   `json:"spec"`
	Seen uint64 `json:"seen,omitempty"`
}

// RemoveService asks for the end of a service; when its last container is gone
// the service goes too.
type RemoveService struct {
	Name string `json:"name"`
}

// ScaleByHand fixes the number of containers; Count 0 gives it back to the rule.
type ScaleByHand struct {
	Service string `json:"service"`
	Count   int    `json:"count"`
}

// Decide records a scale decision.
type Decide struct {
	Service  string   `json:"service"`
	Seen     uint64   `json:"seen"` // Service.Index
	Decision Decision `json:"decision"`
}

// Place adds a row: generation 1, to be started by Node.
type Place struct {
	Service string `json:"service"`
	Number  int    `json:"number"`
	Node    string `json:"node"`
	Port    int    `json:"port"`
	Reason  string `json:"reason,omitempty"`
}

// Row names a row and the version of it that a command was born from.
type Row struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	Seen       uint64 `json:"seen"` // Container.Index
}

// SetStatus records the verdict of the health API.
type SetStatus struct {
	Row    Row    `json:"row"`
	Status bool   `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// Relaunch begins the next generation of a row, on Node and Port.
type Relaunch struct {
	Row      Row    `json:"row"`
	Node     string `json:"node"`
	Port     int    `json:"port"`
	Failures int    `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}

// BackOff makes a row wait until RetryAt (stamp, ms) before its next relaunch.
type BackOff struct {
	Row      Row    `json:"row"`
	RetryAt  int64  `json:"retry_at"`
	Failures int    `json:"failures"`
	Reason   string `json:"reason,omitempty"`
}

// Drain takes a row out of rotation for good; Deadline is a stamp, ms.
type Drain struct {
	Row      Row    `json:"row"`
	Deadline int64  `json:"deadline"`
	Reason   string `json:"reason,omitempty"`
}

// Stop tells the owner to stop a drained row. The row goes when it has.
type Stop struct {
	Row    Row    `json:"row"`
	Reason string `json:"reason,omitempty"`
}

// Forget removes a row that is to stop and whose node cannot say that it has.
type Forget struct {
	Row    Row    `json:"row"`
	Reason string `json:"reason,omitempty"`
}

// Observe is the owning node's report of one of its rows. It needs no Seen:
// phases of a generation only go forward. Created is the row's, so that a late
// report of a row that is gone does not meet its successor; 0 is whichever.
type Observe struct {
	Node       string `json:"node"`
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Generation uint64 `json:"generation"`
	Created    uint64 `json:"created,omitempty"`
	Phase      Phase  `json:"phase"`
	LocalAddr  string `json:"local_addr,omitempty"`
	PortTaken  bool   `json:"port_taken,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// TakeTurns issues Count turns to a node and counts Served requests. Its result
// is the first turn, a uint64. The same (Epoch, Seq) again gives the same run.
type TakeTurns struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"`
	Seq     uint64 `json:"seq"`
	Count   uint64 `json:"count"`
	Served  uint64 `json:"served"`
}

// Note adds an event that changes nothing else. ID is chosen by the proposer so
// that a repeated note stands once; without an ID it stands as often as it is said.
type Note struct {
	ID      string `json:"id"`
	What    string `json:"kind"`
	Service string `json:"service,omitempty"`
	Number  int    `json:"number,omitempty"`
	Node    string `json:"node,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Kind of each command.
func (InitCluster) Kind() Kind   { return KindInitCluster }
func (PutNode) Kind() Kind       { return KindPutNode }
func (SetNodeStatus) Kind() Kind { return KindSetNodeStatus }
func (RemoveNode) Kind() Kind    { return KindRemoveNode }
func (PutService) Kind() Kind    { return KindPutService }
func (RemoveService) Kind() Kind { return KindRemoveService }
func (ScaleByHand) Kind() Kind   { return KindScaleByHand }
func (Decide) Kind() Kind        { return KindDecide }
func (Place) Kind() Kind         { return KindPlace }
func (SetStatus) Kind() Kind     { return KindSetStatus }
func (Relaunch) Kind() Kind      { return KindRelaunch }
func (BackOff) Kind() Kind       { return KindBackOff }
func (Drain) Kind() Kind         { return KindDrain }
func (Stop) Kind() Kind          { return KindStop }
func (Forget) Kind() Kind        { return KindForget }
func (Observe) Kind() Kind       { return KindObserve }
func (TakeTurns) Kind() Kind     { return KindTakeTurns }
func (Note) Kind() Kind          { return KindNote }

// ErrCorrupt means that bytes are not a command: damaged on disk or on the way.
var ErrCorrupt = errors.New("corrupt command")

// ErrUnknownCommand means that a newer release wrote the command. The node must
// stop and be upgraded; skipping it would make this node diverge.
var ErrUnknownCommand = errors.New("unknown command: upgrade this node")

// headLen is kind, version, CRC-32C and stamp, in bytes.
const headLen = 1 + 1 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns c as it stands in the log: kind, version, CRC-32C (of all the
// rest), stamp in milliseconds (all big-endian), body as JSON.
func Encode(stamp int64, c Command) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", c.Kind(), err)
	}
	if headLen+len(body) > MaxCommand {
		return nil, fmt.Errorf("command %d is %d bytes long; at most %d are allowed: make the spec smaller", c.Kind(), headLen+len(body), MaxCommand)
	}
	b := make([]byte, headLen, headLen+len(body))
	b[0], b[1] = byte(c.Kind()), commandVersion
	binary.BigEndian.PutUint64(b[6:], uint64(stamp))
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[2:], checksum(b))
	return b, nil
}

func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:2], castagnoli), castagnoli, b[6:])
}

// Decode reads what Encode wrote. It never panics; any other bytes give
// ErrCorrupt or ErrUnknownCommand.
func Decode(b []byte) (stamp int64, c Command, err error) {
	if len(b) < headLen || len(b) > MaxCommand {
		return 0, nil, fmt.Errorf("%w: %d bytes long", ErrCorrupt, len(b))
	}
	if got, want := binary.BigEndian.Uint32(b[2:]), checksum(b); got != want {
		return 0, nil, fmt.Errorf("%w: checksum %08x, content has %08x", ErrCorrupt, got, want)
	}
	if b[1] > commandVersion {
		return 0, nil, fmt.Errorf("%w: kind %d version %d", ErrUnknownCommand, b[0], b[1])
	}
	stamp = int64(binary.BigEndian.Uint64(b[6:]))
	c, err = decodeBody(Kind(b[0]), b[headLen:])
	return stamp, c, err
}

func decodeBody(k Kind, body []byte) (Command, error) {
	switch k {
	case KindInitCluster:
		return decodeAs[InitCluster](body)
	case KindPutNode:
		return decodeAs[PutNode](body)
	case KindSetNodeStatus:
		return decodeAs[SetNodeStatus](body)
	case KindRemoveNode:
		return decodeAs[RemoveNode](body)
	case KindPutService:
		return decodeAs[PutService](body)
	case KindRemoveService:
		return decodeAs[RemoveService](body)
	case KindScaleByHand:
		return decodeAs[ScaleByHand](body)
	case KindDecide:
		return decodeAs[Decide](body)
	case KindPlace:
		return decodeAs[Place](body)
	case KindSetStatus:
		return decodeAs[SetStatus](body)
	case KindRelaunch:
		return decodeAs[Relaunch](body)
	case KindBackOff:
		return decodeAs[BackOff](body)
	case KindDrain:
		return decodeAs[Drain](body)
	case KindStop:
		return decodeAs[Stop](body)
	case KindForget:
		return decodeAs[Forget](body)
	case KindObserve:
		return decodeAs[Observe](body)
	case KindTakeTurns:
		return decodeAs[TakeTurns](body)
	case KindNote:
		return decodeAs[Note](body)
	}
	return nil, fmt.Errorf("%w: kind %d", ErrUnknownCommand, k)
}

// decodeAs decodes a body strictly: a key that this release does not know was
// written by a newer one and must not be dropped silently.
func decodeAs[C Command](body []byte) (Command, error) {
	var c C
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCorrupt, c.Kind(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: kind %d: bytes after the body", ErrCorrupt, c.Kind())
	}
	return c, nil
}
