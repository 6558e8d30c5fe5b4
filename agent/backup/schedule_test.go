package backup

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// The leader alone writes, at the interval, and a new leader goes on where the one
// before it stopped.
func TestLeaderWritesAtTheInterval(t *testing.T) {
	dir := t.TempDir()
	v := state(t)
	synctest.Test(t, func(t *testing.T) {
		n := &node{v: v}
		x := schedule(n, dir)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Run(ctx) }()
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }

		pass(3 * time.Hour)
		if got := files(t, dir); len(got) != 0 {
			t.Fatalf("a follower wrote %v", got)
		}
		n.leads.Store(true)
		pass(2 * time.Second)
		if got := files(t, dir); len(got) != 1 {
			t.Fatalf("a new leader without a file wrote %v", got)
		}
		if what, in, ok := x.Next(); !ok || in < 59*time.Minute || what != "write a snapshot file to "+dir {
			t.Errorf("next: %q in %s, %t", what, in, ok)
		}
		pass(30 * time.Minute)
		n.leads.Store(false) // and another one takes over, half an hour before it is due
		pass(2 * time.Second)
		n.leads.Store(true)
		pass(10 * time.Minute)
		if got := files(t, dir); len(got) != 1 {
			t.Fatalf("the next leader did not look when the last one was written: %v", got)
		}
		pass(21 * time.Minute)
		if got := files(t, dir); len(got) != 2 {
			t.Fatalf("not written when due: %v", got)
		}
		pass(5 * time.Hour)
		got := files(t, dir)
		if len(got) != 3 {
			t.Fatalf("kept %v", got)
		}
		b, err := os.ReadFile(got[2])
		if err != nil {
			t.Fatal(err)
		}
		if m, _, err := Read(bytes.NewReader(b)); err != nil || m.Index != 4 || m.Name() != filepath.Base(got[2]) {
			t.Errorf("%+v, %v", m, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A place that can not be written to is told, with since when, and is used again as
// soon as it can be.
func TestFailureIsShownUntilItIsMended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in-the-way")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v := state(t)
	synctest.Test(t, func(t *testing.T) {
		n := &node{v: v}
		n.leads.Store(true)
		x := schedule(n, dir)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Run(ctx) }()
		begin := time.Now()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		reason, since := x.Impaired()
		if reason == "" || since.Sub(begin) > 2*time.Second {
			t.Errorf("impaired %q since %s", reason, since.Sub(begin))
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		<-time.After(retryAfter + 2*time.Second)
		synctest.Wait()
		if reason, _ := x.Impaired(); reason != "" || len(files(t, dir)) != 1 {
			t.Errorf("impaired %q, files %v", reason, files(t, dir))
		}
		cancel()
		<-ended
	})
}

// TestFileFromTheFuture is one of a clock that was wrong: files are written all the same,
// and kept, also when this node's own clock is set back.
func TestFileFromTheFuture(t *testing.T) {
	dir := t.TempDir()
	v := state(t)
	synctest.Test(t, func(t *testing.T) {
		for i := range 3 {
			m := Meta{ClusterID: v.ClusterID, TakenAt: time.Now().AddDate(10, 0, i), Index: 3}
			if err := os.WriteFile(filepath.Join(dir, m.Name()), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n := &node{v: v}
		n.leads.Store(true)
		x := schedule(n, dir)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Run(ctx) }()
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		here := func() (list []string) {
			for _, f := range files(t, dir) {
				if at, err := time.Parse(stampLayout, stampOf(filepath.Base(f))); err != nil || !at.After(time.Now()) {
					list = append(list, f)
				}
			}
			return list
		}
		for want := 1; want <= 3; want++ {
			pass(2 * time.Second)
			if got := here(); len(got) != want || len(files(t, dir)) != 3 {
				t.Fatalf("of now %v, of %v", got, files(t, dir))
			}
			pass(time.Hour)
		}
		x.note(time.Now().Add(48*time.Hour), nil) // as it was by the clock before
		before := here()
		pass(2 * time.Second)
		if got := here(); len(got) != 3 || got[2] == before[2] {
			t.Errorf("after the clock was set back: %v, before %v", got, before)
		}
		cancel()
		<-ended
	})
}
