package acts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// busyTimeout is how long a writer queues behind those of other processes, in
	// ms: longer than any burst of uploads took with eight of them.
	busyTimeout = 20_000
	// pingBusy is how long the health check queues, in ms.
	pingBusy = 300
	// stuckAfter: a database that let nobody write for so long is not merely busy.
	stuckAfter = 10 * time.Second
	// maxReaders at once; more would only queue for the processor.
	maxReaders = 16
)

// sqliteStore is one file in a folder that all processes of a machine share. WAL
// lets readers go on beside the one writer, and writers queue for each other.
type sqliteStore struct {
	sqlStore
	pinger *sql.DB // one connection of its own, which does not queue for long
	dir    string

	mu      sync.Mutex
	busy    time.Time // since when no ping could write
	written int64     // alive.at as the last ping saw it
}

func sqliteDSN(dir string, busy int, immediate bool) string {
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", busy), "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)"}}
	if immediate { // a transaction holds the write lock from its beginning: it never fails for having read first
		q.Set("_txlock", "immediate")
	}
	return "file:" + filepath.Join(dir, "acts.db") + "?" + q.Encode()
}

func openSQLite(ctx context.Context, dir string) (_ *sqliteStore, err error) {
	s := &sqliteStore{dir: dir}
	if s.db, err = sql.Open("sqlite", sqliteDSN(dir, busyTimeout, true)); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.db.SetMaxOpenConns(maxReaders)
	s.db.SetMaxIdleConns(maxReaders)
	if s.pinger, err = sql.Open("sqlite", sqliteDSN(dir, pingBusy, true)); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.pinger.SetMaxOpenConns(1)
	s.mark = "?"
	s.begin = func(ctx context.Context) (*sql.Tx, error) { return s.db.BeginTx(ctx, nil) }
	s.foreign = func(error) bool { return false } // nobody writes beside
	s.tooLong = func(error) bool { return false } // it has no such limit
	s.certain = func(err error) bool {
		var sick *sqlite.Error
		return errors.As(err, &sick) && sick.Code()&0xff == sqlite3.SQLITE_FULL
	}
	if err := s.setUp(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// setUp migrates under a lock of the folder: ten processes may start at once.
func (s *sqliteStore) setUp(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(s.dir, "migrate.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock database: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock database: %w", err)
	}
	return s.migrate(ctx, goose.DialectSQLite3, "sqlite")
}

func (s *sqliteStore) Close() error { return errors.Join(s.pinger.Close(), s.sqlStore.Close()) }

// ping writes. Where another process holds the lock it reads instead, for a time: a
// burst of uploads is no reason to replace a container.
func (s *sqliteStore) ping(ctx context.Context) error {
	r, err := s.pinger.ExecContext(ctx, "UPDATE alive SET at = ?1 WHERE one = 1", time.Now().UnixNano())
	if err == nil {
		err = one(r, nil, errUnknown)
	}
	var sick *sqlite.Error
	if err == nil || !errors.As(err, &sick) || sick.Code()&0xff != sqlite3.SQLITE_BUSY {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy = time.Time{}
		return err
	}
	var at int64
	if err := s.pinger.QueryRowContext(ctx, "SELECT at FROM alive").Scan(&at); err != nil {
		return err
	}
	return s.busySince(at, time.Now(), err)
}

// busySince tells a busy database from a stuck one: pings of all processes write.
func (s *sqliteStore) busySince(at int64, now time.Time, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy.IsZero() || at != s.written {
		s.busy, s.written = now, at
	}
	if now.Sub(s.busy) < stuckAfter {
		return nil
	}
	return fmt.Errorf("nobody could write for %s: %w", now.Sub(s.busy).Round(time.Second), err)
}
