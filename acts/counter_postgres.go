package acts

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// flushInterval is how long a request may be counted here only.
	flushInterval = 50 * time.Millisecond
	// heardEvery is how often a process says that it is there where it counts nothing.
	heardEvery = time.Hour
	// deadAfter is how long a process that has a row, and can write it, is never silent
	// for: one silent for longer is taken for gone. Where it was merely cut off, what it
	// had counted until then counts twice when it is back.
	deadAfter = 24 * time.Hour
	// closeTimeout bounds the last word of a process.
	closeTimeout = time.Second
)

// postgresCounter is a row for each process that runs, and one for all that are gone. A
// request costs an addition; the row follows within flushInterval, for which a reader
// waits. Rows outlive a crash of the server: that is one small write in flushInterval for
// each process that is asked something.
type postgresCounter struct {
	s       *postgresStore
	process string
	n       atomic.Uint64

	flushing sync.Mutex
	flushed  uint64
	heard    time.Time
	stop     context.CancelFunc
	ended    chan struct{}
}

func openPostgresCounter(ctx context.Context, s *postgresStore) (*postgresCounter, error) {
	b := make([]byte, 8)
	rand.Read(b) // never fails (crypto/rand)
	c := &postgresCounter{s: s, process: hex.EncodeToString(b), ended: make(chan struct{})}
	if err := c.fold(ctx, "", time.Now().Add(-deadAfter)); err != nil {
		return nil, fmt.Errorf("put together what others have counted: %w", err)
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	go c.run(ctx)
	return c, nil
}

func (c *postgresCounter) run(ctx context.Context) {
	defer close(c.ended)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.flush(ctx) // where it fails the next one carries it too
		}
	}
}

func (c *postgresCounter) flush(ctx context.Context) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	n, now := c.n.Load(), time.Now()
	if n == c.flushed && (n == 0 || now.Sub(c.heard) < heardEvery) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := c.s.db.ExecContext(ctx, "INSERT INTO counts VALUES ($1, $2, $3) ON CONFLICT (process) DO UPDATE SET n = excluded.n, at = excluded.at", c.process, int64(n), now.Unix())
	if err == nil {
		c.flushed, c.heard = n, now
	}
	return err
}

// alone runs a statement while no other one changes a row: what it reads is what it
// writes over.
func (c *postgresCounter) alone(ctx context.Context, statement string, args ...any) error {
	return c.s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "LOCK TABLE counts IN EXCLUSIVE MODE"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

// fold adds the rows of a process and of those not heard of since to the one of all
// that are gone.
func (c *postgresCounter) fold(ctx context.Context, process string, since time.Time) error {
	return c.alone(ctx, `WITH gone AS (DELETE FROM counts WHERE process <> 'gone' AND (process = $1 OR at < $2) RETURNING n)
		INSERT INTO counts SELECT 'gone', CAST(coalesce(sum(n), 0) AS BIGINT), 0 FROM gone ON CONFLICT (process) DO UPDATE SET n = counts.n + excluded.n`,
		process, since.Unix())
}

func (c *postgresCounter) add() { c.n.Add(1) }

// settle waits until every process that runs has told what it had counted.
func (c *postgresCounter) settle(ctx context.Context) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	t := time.NewTimer(3 * flushInterval)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *postgresCounter) read(ctx context.Context) (uint64, error) {
	if err := c.settle(ctx); err != nil {
		return 0, err
	}
	var n int64
	err := c.s.db.QueryRowContext(ctx, "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM counts").Scan(&n)
	return uint64(max(0, n)), err
}

// reset takes back what has been counted, in the row of those that are gone: the others go
// on with their numbers, also when the server has crashed in between.
func (c *postgresCounter) reset(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	return c.alone(ctx, `INSERT INTO counts SELECT 'gone', -CAST(coalesce(sum(n), 0) AS BIGINT), 0 FROM counts WHERE process <> 'gone'
		ON CONFLICT (process) DO UPDATE SET n = excluded.n`)
}

// Close leaves no row of its own.
func (c *postgresCounter) Close() error {
	c.stop()
	<-c.ended
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := c.flush(ctx); err != nil || c.flushed == 0 {
		return err
	}
	return c.fold(ctx, c.process, time.Time{})
}
