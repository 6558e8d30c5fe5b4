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

// ErrSnapshot means that bytes are not a snapshot that this release can read.
var ErrSnapshot = errors.New("unreadable snapshot")

// snapshotMagic opens a snapshot: a name and the version of the format.
const snapshotMagic = "orchsnp1"

// MaxSnapshot bounds what Restore reads, in bytes: 500 rows, 1,000 events and
// 100 services are under 2 MiB.
const MaxSnapshot = 256 << 20

// WriteSnapshot writes s as magic, CRC-32C of the body (4 bytes, big-endian),
// body (JSON). Equal states give equal bytes.
func WriteSnapshot(w io.Writer, s *State) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	head := binary.BigEndian.AppendUint32([]byte(snapshotMagic), crc32.Checksum(body, castagnoli))
	if _, err := w.Write(append(head, body...)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// ReadSnapshot reads what WriteSnapshot wrote and checks the invariants.
func ReadSnapshot(r io.Reader) (*State, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSnapshot+1))
	switch head := len(snapshotMagic) + 4; {
	case err != nil:
		return nil, fmt.Errorf("read snapshot: %w", err)
	case len(b) > MaxSnapshot:
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrSnapshot, MaxSnapshot)
	case len(b) < head || string(b[:len(snapshotMagic)]) != snapshotMagic:
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrSnapshot, snapshotMagic)
	case binary.BigEndian.Uint32(b[len(snapshotMagic):]) != crc32.Checksum(b[head:], castagnoli):
		return nil, fmt.Errorf("%w: checksum does not match", ErrSnapshot)
	default:
		b = b[head:]
	}
	var s State
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the state", ErrSnapshot)
	}
	if err := Check(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return &s, nil
}
