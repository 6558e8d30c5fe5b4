package acts

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestManyLeaveAtOnce: the questions of clients that hang up are cut short, to PostgreSQL
// with their connections; nobody else's question fails for that.
func TestManyLeaveAtOnce(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { manyLeaveAtOnce(t, opened(t, Config{Data: t.TempDir()}).store) })
	t.Run("postgres", func(t *testing.T) {
		s := postgresServer(t)
		s.waitSocket(t)
		p, err := openPostgres(t.Context(), s.dsn())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		manyLeaveAtOnce(t, p)
	})
}

func manyLeaveAtOnce(t *testing.T, p store) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				leaves, leave := context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
				p.count(leaves) // what becomes of it nobody hears
				leave()
			}
		})
	}
	for range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := p.count(t.Context()); err != nil {
					t.Errorf("question %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
