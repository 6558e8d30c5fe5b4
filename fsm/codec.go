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

// MaxCommand is the longest encoded command, in bytes. Raft copies an entry to
// every follower in one message; 64 KiB keeps heartbeats from waiting behind it.
const MaxCommand = 64 << 10

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
	b[0], b[1] = byte(c.Kind()), formats[c.Kind()].version
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
	f := formats[b[0]]
	if f.decode == nil || b[1] > f.version {
		return 0, nil, fmt.Errorf("%w: kind %d version %d", ErrUnknownCommand, b[0], b[1])
	}
	c, err = f.decode(b[headLen:])
	return int64(binary.BigEndian.Uint64(b[6:])), c, err
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
