package engine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a writer that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func logsFollow(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	var whole, cut lines
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := b.Logs(t.Context(), c.ID, true, 0, &whole); err != nil {
			t.Error(err)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- b.Logs(ctx, c.ID, true, 1, &cut) }()
	eventually(t, "the lines so far", func() bool {
		return strings.Contains(whole.String(), "line 1") && strings.Contains(cut.String(), "line 2")
	})
	if _, err := get(s.addr(), "/log?line=told"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the line that follows", func() bool {
		return strings.HasSuffix(whole.String(), "told\n") && strings.HasSuffix(cut.String(), "told\n")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("logs whose reader went: %v", err)
	}
	if strings.Contains(cut.String(), "line 1") {
		t.Fatalf("the last line was asked for, and came with %q", cut.String())
	}
	b.murder(t, c)
	wg.Wait() // the other ends with the container
}

func eventsOfALife(t *testing.T, b bench) {
	s := b.spec(t)
	ctx, cancel := context.WithCancel(t.Context())
	events := b.Events(ctx, map[string]string{"case": t.Name()})
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	if _, err := b.Inspect(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	await := func(kind string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case e := <-events:
				if e.Kind != kind {
					continue // kill and stop come besides, as each engine does it
				}
				if e.ID != c.ID || e.Name != s.Name || !hasLabels(e.Labels, s.Labels) || time.Since(e.At) > time.Minute {
					t.Fatalf("event %+v of container %+v", e, c)
				}
				return
			case <-deadline:
				t.Fatalf("no event %s", kind)
			}
		}
	}
	await("start")
	b.pause(t, c)
	await("pause")
	b.murder(t, c)
	await("die")
	if err := b.Kill(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	await("destroy")
	cancel()
	eventually(t, "the end of the events", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})
}

func volume(t *testing.T, b bench) {
	dir, err := os.MkdirTemp("", "engine-volume")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Not t.TempDir(): its parent is closed to the spec's user.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := b.spec(t, "DATA=/data/sub")
	s.Mounts = []Mount{{Source: filepath.Join(dir, "volume"), Target: "/data/sub"}}
	if os.Geteuid() == 0 {
		s.User = "10001:10001"
	}
	b.run(t, s)
	answers(t, s.addr(), s.Name)
	if _, err := get(s.addr(), "/write"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "volume", "written")); err != nil || string(got) != "by "+s.Name {
		t.Fatalf("the volume holds %q, %v", got, err)
	}
}
