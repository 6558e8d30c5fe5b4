package acts

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

// What a store refuses.
var (
	errExists  = errors.New("exists already")
	errUnknown = errors.New("unknown")
)

// act is one photo of a good deed.
type act struct {
	ID        int64  `json:"actId"`
	Username  string `json:"username"`
	Timestamp string `json:"timestamp"`
	Caption   string `json:"caption"`
	Category  string `json:"categoryName,omitempty"`
	Image     string `json:"imgB64"`
	Upvotes   int64  `json:"upvotes"`
	at        time.Time
	photo     []byte
}

// store keeps users, categories and acts in an SQLite database, and photos as files
// beside it. Several processes use one folder at once: WAL lets readers go on beside
// the one writer, and writers queue for each other.
type store struct {
	db     *sql.DB
	photos string
}

// busyTimeout is how long a writer queues behind those of other processes, in ms:
// longer than any burst of uploads took with eight of them.
const busyTimeout = 20_000

const schema = `
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS categories (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acts (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	id INTEGER NOT NULL UNIQUE,
	username TEXT NOT NULL,
	category TEXT NOT NULL REFERENCES categories (name) ON DELETE CASCADE,
	at INTEGER NOT NULL,
	timestamp TEXT NOT NULL,
	caption TEXT NOT NULL,
	upvotes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS acts_newest ON acts (category, at DESC, seq DESC);
CREATE TABLE IF NOT EXISTS alive (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO alive VALUES (1, 0);
`

func openStore(ctx context.Context, dir string) (*store, error) {
	s := &store{photos: filepath.Join(dir, "photos")}
	if err := os.MkdirAll(s.photos, 0o700); err != nil {
		return nil, fmt.Errorf("make photo folder: %w", err)
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout), "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)",
	}}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "acts.db")+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.db = db
	if err := s.write(ctx, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, schema); return err }); err != nil {
		db.Close()
		return nil, fmt.Errorf("make schema: %w", err)
	}
	return s, nil
}

func (s *store) Close() error { return s.db.Close() }

// write runs f in one transaction that holds the write lock from its beginning, so
// that it never fails for having read first.
func (s *store) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// ping reads and writes.
func (s *store) ping(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		return one(tx.ExecContext(ctx, "UPDATE alive SET at = ? WHERE one = 1", time.Now().Unix()))
	})
}

// one turns a statement that touched no row into errUnknown.
func one(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errUnknown, err)
	}
	return nil
}

func (s *store) addUser(ctx context.Context, name, password string) error {
	err := one(s.db.ExecContext(ctx, "INSERT INTO users VALUES (?, ?) ON CONFLICT DO NOTHING", name, password))
	return taken(err)
}

func taken(err error) error {
	if errors.Is(err, errUnknown) {
		return errExists
	}
	return err
}

func (s *store) removeUser(ctx context.Context, name string) error {
	return one(s.db.ExecContext(ctx, "DELETE FROM users WHERE name = ?", name))
}

func (s *store) users(ctx context.Context) (names []string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT name FROM users ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func (s *store) addCategory(ctx context.Context, name string) error {
	return taken(one(s.db.ExecContext(ctx, "INSERT INTO categories VALUES (?) ON CONFLICT DO NOTHING", name)))
}

func (s *store) removeCategory(ctx context.Context, name string) error {
	var ids []int64
	err := s.write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT id FROM acts WHERE category = ?", name)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return one(tx.ExecContext(ctx, "DELETE FROM categories WHERE name = ?", name))
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		os.Remove(s.photo(id)) // one that stays is overwritten when its number is used again
	}
	return nil
}

func (s *store) categories(ctx context.Context) (map[string]int64, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT c.name, count(a.id) FROM categories c LEFT JOIN acts a ON a.category = c.name GROUP BY c.name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		out[name] = n
	}
	return out, rows.Err()
}

// size is the number of acts of a category, errUnknown where there is none.
func (s *store) size(ctx context.Context, category string) (n int64, err error) {
	var known bool
	err = s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM categories WHERE name = ?1), (SELECT count(*) FROM acts WHERE category = ?1)`, category).Scan(&known, &n)
	if err == nil && !known {
		err = errUnknown
	}
	return n, err
}

func (s *store) count(ctx context.Context) (n int64, err error) {
	return n, s.db.QueryRowContext(ctx, "SELECT count(*) FROM acts").Scan(&n)
}

// newest returns limit acts of a category from the offset-th newest on.
func (s *store) newest(ctx context.Context, category string, offset, limit int64) ([]act, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, username, timestamp, caption, category, upvotes FROM acts
		WHERE category = ? ORDER BY at DESC, seq DESC LIMIT ? OFFSET ?`, category, limit, offset)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []act
	for rows.Next() {
		var a act
		if err := rows.Scan(&a.ID, &a.Username, &a.Timestamp, &a.Caption, &a.Category, &a.Upvotes); err != nil {
			return nil, err
		}
		photo, err := os.ReadFile(s.photo(a.ID))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		a.Image = base64.StdEncoding.EncodeToString(photo)
		out = append(out, a)
	}
	return out, rows.Err()
}

func (s *store) photo(id int64) string { return filepath.Join(s.photos, strconv.FormatInt(id, 10)) }

// addAct stores the photo first: never an act without one. What refuses it is the
// field's name and errUnknown or errExists.
func (s *store) addAct(ctx context.Context, a act) (field string, err error) {
	tmp, err := os.CreateTemp(s.photos, ".upload-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(a.photo)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		var user, category bool
		err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM users WHERE name = ?), EXISTS (SELECT 1 FROM categories WHERE name = ?)", a.Username, a.Category).Scan(&user, &category)
		switch {
		case err != nil:
			return err
		case !user:
			field = "username"
			return errUnknown
		case !category:
			field = "categoryName"
			return errUnknown
		}
		err = taken(one(tx.ExecContext(ctx, `INSERT INTO acts (id, username, category, at, timestamp, caption) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			a.ID, a.Username, a.Category, a.at.Unix(), a.Timestamp, a.Caption)))
		if err != nil {
			field = "actId"
			return err
		}
		return os.Rename(tmp.Name(), s.photo(a.ID))
	})
	return field, err
}

func (s *store) removeAct(ctx context.Context, id int64) error {
	err := one(s.db.ExecContext(ctx, "DELETE FROM acts WHERE id = ?", id))
	if err == nil {
		os.Remove(s.photo(id)) // one that stays is overwritten when its number is used again
	}
	return err
}

func (s *store) upvote(ctx context.Context, id int64) error {
	return one(s.db.ExecContext(ctx, "UPDATE acts SET upvotes = upvotes + 1 WHERE id = ?", id))
}
