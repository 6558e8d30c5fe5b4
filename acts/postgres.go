package acts

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	// poolSize of one process: ten containers stay below a default server's 100.
	poolSize = 8
	// migrationLock is the advisory lock that processes queue for while they start.
	migrationLock = 0x61637473 // "acts"
)

type postgresStore struct {
	sqlStore
	pool *pgxpool.Pool
}

// openPostgres never puts the DSN into an error: a password is in it.
func openPostgres(ctx context.Context, dsn string) (*postgresStore, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the database's DSN is not one: write it as postgres://USER:PASSWORD@HOST/NAME (in the file of --database-file, or $ACTS_DATABASE)")
	}
	cfg.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database %s on %s: %w", cfg.ConnConfig.Database, cfg.ConnConfig.Host, err)
	}
	s := &postgresStore{pool: pool}
	s.db, s.mark = sql.OpenDB(lasting{stdlib.GetPoolConnector(pool)}), "$"
	// What the one pool gives, the other must queue for itself: it never gives back, so
	// that who waited below would wait for ever. One stays for the health check.
	s.db.SetMaxOpenConns(poolSize - 1)
	s.db.SetMaxIdleConns(poolSize - 1)
	s.begin = func(ctx context.Context) (*sql.Tx, error) { return s.db.BeginTx(ctx, nil) }
	s.foreign = func(err error) bool {
		var sick *pgconn.PgError
		return errors.As(err, &sick) && sick.Code == "23503" // foreign_key_violation
	}
	s.tooLong = func(err error) bool {
		var sick *pgconn.PgError
		return errors.As(err, &sick) && sick.Code == "54000" // program_limit_exceeded
	}
	s.certain = func(err error) bool { // the server has said so
		var sick *pgconn.PgError
		return errors.As(err, &sick)
	}
	if err := s.setUp(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("database %s on %s: %w", cfg.ConnConfig.Database, cfg.ConnConfig.Host, err)
	}
	return s, nil
}

// lasting connects so that database/sql can tell a connection that has ended. It would
// hand that to whoever waits for one, and give up after three of them: when many clients
// hang up at once, whose connections end with their questions, others' would fail.
type lasting struct{ driver.Connector }

func (l lasting) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := l.Connector.Connect(ctx)
	if p, ok := c.(*stdlib.Conn); ok && err == nil {
		return validated{p}, nil
	}
	return c, err
}

type validated struct{ *stdlib.Conn }

// IsValid implements driver.Validator.
func (v validated) IsValid() bool { return !v.Conn.Conn().IsClosed() }

// setUp migrates under an advisory lock: ten processes may start at once.
func (s *postgresStore) setUp(ctx context.Context) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
		return err
	}
	defer c.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
	return s.migrate(ctx, goose.DialectPostgres, "postgres")
}

func (s *postgresStore) Close() error {
	err := s.sqlStore.Close()
	s.pool.Close()
	return err
}

func (s *postgresStore) ping(ctx context.Context) error {
	t, err := s.pool.Exec(ctx, "UPDATE alive SET at = $1 WHERE one = 1", time.Now().UnixNano())
	if err == nil && t.RowsAffected() == 0 {
		err = errUnknown
	}
	return err
}
