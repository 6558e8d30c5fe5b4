package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"orch/fsm"
)

// After a power cut without a quorum Raft gives back its last snapshot only,
// for the rest of the log is not known to be committed. So the last view is kept
// beside it, and the proxy serves from that until the log has caught up.

// loadView returns the last view that was saved, or nil where there is none.
func (f *folder) loadView() (*fsm.State, error) {
	path := filepath.Join(f.dir, viewFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read last view: %w", err)
	}
	v, err := fsm.ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read last view %s: %w", path, err)
	}
	return v, nil
}

func (f *folder) saveView(v *fsm.State) error {
	var b bytes.Buffer
	if err := fsm.WriteSnapshot(&b, v); err != nil {
		return err
	}
	return f.replace(viewFile, b.Bytes())
}

// viewSaveInterval bounds how often the view is written: a roll-out changes the
// table many times a second, and one fsync a second is enough to lose little.
const viewSaveInterval = time.Second

// viewRetryInterval is the wait after a write that failed (a full disk, mostly).
const viewRetryInterval = 5 * time.Second

// tables is where the newest committed table is read.
type tables interface {
	Subscribe() (poke <-chan struct{}, end func())
	View() *fsm.State
}

// keepView saves the view whenever the table has changed, until ctx ends. A full
// disk is logged once and costs nothing else.
func (f *folder) keepView(ctx context.Context, table tables, log *slog.Logger) error {
	poke, end := table.Subscribe()
	defer end()
	var saved uint64
	failing := false
	for {
		var retry <-chan time.Time
		if v := table.View(); v.Changed > saved {
			err := f.saveView(v)
			if err == nil {
				saved = v.Changed
			} else {
				retry = time.After(viewRetryInterval)
			}
			if (err != nil) != failing {
				failing = err != nil
				log.Warn("last view on disk", "ok", !failing, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(viewSaveInterval):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-retry:
		}
	}
}
