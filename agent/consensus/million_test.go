//go:build !race

package consensus

import (
	"encoding/binary"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sum is a machine that is small whatever it has seen.
type sum struct{ n, total atomic.Uint64 }

func (s *sum) Apply(_, _ uint64, data []byte) any {
	s.n.Add(1)
	return s.total.Add(binary.BigEndian.Uint64(data))
}

func (s *sum) Snapshot() func(io.Writer) error {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.n.Load()), s.total.Load())
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func (s *sum) Restore(r io.Reader) error {
	b := make([]byte, 16)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	s.n.Store(binary.BigEndian.Uint64(b))
	s.total.Store(binary.BigEndian.Uint64(b[8:]))
	return nil
}

// folderSize is the bytes of all files below dir.
func folderSize(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A million commands, the size of a lease of turns, leave a folder that is bounded: by
// the reserve for followers while they come fast, and by the profile again after a
// restart. It runs without the race detector, for its time.
func TestAMillionCommandsStayBounded(t *testing.T) {
	const (
		commands = 1_000_000
		workers  = 256
		size     = 160       // bytes of a TakeTurns
		busy     = 768 << 20 // 1<<20 entries of about 250 bytes, with the holes of a B+tree
		rested   = 96 << 20
	)
	dir := filepath.Join(t.TempDir(), "raft")
	cfg := Config{ID: "n1", Addr: "127.0.0.1:0", Dir: dir, Timings: lan(t)}
	m := &sum{}
	n, err := Open(cfg, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Bootstrap(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	until(t, "it leads", func() bool { return n.leading.Load() })
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for next.Add(1) <= commands {
				data := make([]byte, size)
				data[7] = 1
				if _, _, err := n.Propose(t.Context(), data); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d commands in %s, folder %d MiB", commands, time.Since(began).Round(time.Millisecond), folderSize(t, dir)>>20)
	if got := folderSize(t, dir); got > busy {
		t.Errorf("the folder has %d bytes, more than %d", got, busy)
	}
	if m.n.Load() != commands {
		t.Errorf("%d commands applied", m.n.Load())
	}
	// A restart begins with the profile's reserve; the next snapshot lets the rest of the
	// log go, and the start after it gives the room back.
	for _, more := range []uint64{0, 1} {
		if err := n.Close(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		m = &sum{}
		began = time.Now()
		if n, err = Open(cfg, m); err != nil {
			t.Fatal(err)
		}
		t.Logf("opened in %s, folder %d MiB", time.Since(began).Round(time.Millisecond), folderSize(t, dir)>>20)
		until(t, "all is applied again", func() bool { return m.n.Load() == commands+more && n.leading.Load() })
		one := make([]byte, size)
		if _, _, err := n.Propose(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		if err := n.raft.Load().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	if got := folderSize(t, dir); got > rested {
		t.Errorf("after a restart the folder has %d bytes, more than %d", got, rested)
	}
	if m.total.Load() != commands {
		t.Errorf("the sum is %d", m.total.Load())
	}
	if err := n.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}
