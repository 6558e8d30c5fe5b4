// Package backup keeps the replicated state outside of the cluster: one file that
// can be checked and looked into, and places to put such files.
//
// A file is a tar of three: meta.json, state.bin (as fsm.WriteSnapshot writes it) and
// SHA256SUMS of both, so that tar and sha256sum alone can open and check it. It
// promises that Read accepts nothing that was cut off or changed. It holds what the
// state holds: specs with their environment, no user data of any service.
package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"orch/fsm"
)

// ErrArchive means that bytes are not a snapshot file, or not a whole one.
var ErrArchive = errors.New("not a snapshot file")

// Format is the version of the file.
const Format = 1

// MaxArchive bounds what Read reads, in bytes.
const MaxArchive = fsm.MaxSnapshot + 1<<20

// Meta says what a file holds.
type Meta struct {
	Format    int       `json:"format"`
	ClusterID string    `json:"cluster_id"`
	Node      string    `json:"node"`    // that wrote it
	Version   string    `json:"version"` // of its program
	Term      uint64    `json:"term"`
	Index     uint64    `json:"index"`
	TakenAt   time.Time `json:"taken_at"`
}

const (
	metaFile  = "meta.json"
	stateFile = "state.bin"
	sumsFile  = "SHA256SUMS"
)

// Write writes a view. node and version are of the writer.
func Write(w io.Writer, v *fsm.State, node, version string, now time.Time) (Meta, error) {
	m := Meta{Format: Format, ClusterID: v.ClusterID, Node: node, Version: version, Term: v.Term, Index: v.Applied, TakenAt: now.UTC().Truncate(time.Second)}
	meta, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("write snapshot file: %w", err)
	}
	meta = append(meta, '\n')
	var state bytes.Buffer
	if err := fsm.WriteSnapshot(&state, v); err != nil {
		return m, err
	}
	sums := sumLine(metaFile, meta) + sumLine(stateFile, state.Bytes())
	t := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		body []byte
	}{{metaFile, meta}, {stateFile, state.Bytes()}, {sumsFile, []byte(sums)}} {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.body)), ModTime: m.TakenAt, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return m, fmt.Errorf("write snapshot file: %w", err)
		}
		if _, err := t.Write(f.body); err != nil {
			return m, fmt.Errorf("write snapshot file: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return m, fmt.Errorf("write snapshot file: %w", err)
	}
	return m, nil
}

func sumLine(name string, body []byte) string {
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(body), name)
}

// Read checks a file as a whole and returns what it holds.
func Read(r io.Reader) (Meta, *fsm.State, error) {
	files, err := unpack(io.LimitReader(r, MaxArchive))
	if err != nil {
		return Meta{}, nil, err
	}
	if want := sumLine(metaFile, files[metaFile]) + sumLine(stateFile, files[stateFile]); string(files[sumsFile]) != want {
		return Meta{}, nil, fmt.Errorf("%w: a checksum does not match: it was changed or damaged; take an older one", ErrArchive)
	}
	var m Meta
	d := json.NewDecoder(bytes.NewReader(files[metaFile]))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, nil, fmt.Errorf("%w: %s: %w", ErrArchive, metaFile, err)
	}
	if m.Format != Format {
		return m, nil, fmt.Errorf("%w: format %d; this program reads format %d: use the release that wrote it (%s)", ErrArchive, m.Format, Format, m.Version)
	}
	v, err := fsm.ReadSnapshot(bytes.NewReader(files[stateFile]))
	if err != nil {
		return m, nil, fmt.Errorf("%w: %s: %w", ErrArchive, stateFile, err)
	}
	if v.ClusterID != m.ClusterID || v.Applied != m.Index || v.Term != m.Term {
		return m, nil, fmt.Errorf("%w: %s and %s are not of one moment", ErrArchive, metaFile, stateFile)
	}
	return m, v, nil
}

func unpack(r io.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if h.Name != metaFile && h.Name != stateFile && h.Name != sumsFile || files[h.Name] != nil {
			return nil, fmt.Errorf("%w: it has %q in it", ErrArchive, h.Name)
		}
		if files[h.Name], err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrArchive, h.Name, err)
		}
	}
	var missing []string
	for _, name := range []string{metaFile, stateFile, sumsFile} {
		if files[name] == nil {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("%w: %s is missing in it", ErrArchive, strings.Join(missing, ", "))
	}
	return files, nil
}
