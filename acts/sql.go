package acts

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// sqlStore is what both databases share: the statements are the same but for the
// marks of parameters.
type sqlStore struct {
	db *sql.DB
	// begin starts a transaction that will write.
	begin func(ctx context.Context) (*sql.Tx, error)
	mark  string // of a parameter: ? or $
	// foreign says whether an error is a reference to a category that is gone.
	foreign func(error) bool
	// tooLong says whether a name does not fit into an index.
	tooLong func(error) bool
	// certain says whether a commit that failed with err has surely changed nothing.
	certain func(error) bool
}

// migrate brings the schema up to date; whoever calls it holds a lock against other
// processes.
func (s *sqlStore) migrate(ctx context.Context, dialect goose.Dialect, folder string) error {
	files, err := fs.Sub(migrations, "migrations/"+folder)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, s.db, files)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// q writes a statement's parameters, ?1 and on, as the database wants them.
func (s *sqlStore) q(statement string) string {
	if s.mark == "?" {
		return statement
	}
	return strings.ReplaceAll(statement, "?", s.mark)
}

func (s *sqlStore) Close() error { return s.db.Close() }

// write runs f in a transaction.
func (s *sqlStore) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil && !s.certain(err) {
		return fmt.Errorf("%w: %w", errOutcome, err)
	} else if err != nil {
		return err
	}
	return nil
}

// one turns a statement that touched no row into otherwise.
func one(r sql.Result, err, otherwise error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = otherwise
	}
	return err
}

func (s *sqlStore) exec(ctx context.Context, otherwise error, statement string, args ...any) error {
	r, err := s.db.ExecContext(ctx, s.q(statement), args...)
	if err != nil && s.tooLong(err) {
		return errTooLong
	}
	return one(r, err, otherwise)
}

func (s *sqlStore) addUser(ctx context.Context, name, password string) error {
	return s.exec(ctx, errExists, "INSERT INTO users VALUES (?1, ?2) ON CONFLICT DO NOTHING", name, password)
}

func (s *sqlStore) removeUser(ctx context.Context, name string) error {
	return s.exec(ctx, errUnknown, "DELETE FROM users WHERE name = ?1", name)
}

func (s *sqlStore) name(ctx context.Context) (id string, err error) {
	return id, s.db.QueryRowContext(ctx, "SELECT id FROM store").Scan(&id)
}

func (s *sqlStore) users(ctx context.Context, visit func(string) error) error {
	rows, err := s.db.QueryContext(ctx, "SELECT name FROM users ORDER BY name")
	return each(rows, err, func() error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		return visit(name)
	})
}

// each calls visit on every row of a query.
func each(rows *sql.Rows, err error, visit func() error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column are the texts that a query gives; there are few.
func column(rows *sql.Rows, err error) (all []string, _ error) {
	err = each(rows, err, func() error {
		all = append(all, "")
		return rows.Scan(&all[len(all)-1])
	})
	return all, err
}

func (s *sqlStore) addCategory(ctx context.Context, name string) error {
	return s.exec(ctx, errExists, "INSERT INTO categories (name, version) VALUES (?1, ?2) ON CONFLICT DO NOTHING", name, newVersion())
}

func (s *sqlStore) removeCategory(ctx context.Context, name string, limit int) (photos []string, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		// It touches the row first, so that nothing is added to it meanwhile.
		r, err := tx.ExecContext(ctx, s.q("UPDATE categories SET acts = 0 WHERE name = ?1"), name)
		if err = one(r, err, errUnknown); err != nil {
			return err
		}
		if photos, err = column(tx.QueryContext(ctx, s.q("SELECT photo FROM acts WHERE category = ?1 LIMIT ?2"), name, limit)); err != nil {
			return err
		}
		r, err = tx.ExecContext(ctx, s.q("DELETE FROM categories WHERE name = ?1"), name)
		return one(r, err, errUnknown)
	})
	return photos, err
}

func (s *sqlStore) categories(ctx context.Context, visit func(string, int64) error) error {
	rows, err := s.db.QueryContext(ctx, "SELECT name, acts FROM categories ORDER BY name")
	return each(rows, err, func() error {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return err
		}
		return visit(name, n)
	})
}

func unknown(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errUnknown
	}
	return err
}

func (s *sqlStore) size(ctx context.Context, category string) (n, version int64, err error) {
	err = s.db.QueryRowContext(ctx, s.q("SELECT acts, version FROM categories WHERE name = ?1"), category).Scan(&n, &version)
	return n, version, unknown(err)
}

// newVersion is never used twice, not by a category that is made again either.
func newVersion() int64 { return rand.Int64() }

// change takes the category of an act, before the act: whoever changes both takes them
// in this order, so that no two wait for each other. delta is of its number of acts.
func (s *sqlStore) change(ctx context.Context, tx *sql.Tx, id int64, delta int) (category string, err error) {
	err = tx.QueryRowContext(ctx, s.q("UPDATE categories SET acts = acts + ?2, version = ?3 WHERE name = (SELECT category FROM acts WHERE id = ?1) RETURNING name"),
		id, delta, newVersion()).Scan(&category)
	return category, unknown(err)
}

func (s *sqlStore) count(ctx context.Context) (n int64, err error) {
	return n, s.db.QueryRowContext(ctx, "SELECT CAST(coalesce(sum(acts), 0) AS BIGINT) FROM categories").Scan(&n)
}

// longText is the most that a list takes of an act at once, in bytes of its user's name
// and its caption: a hundred acts of that are less than one photo.
const longText = 4 << 10

// newestActs is the one statement behind a page of a feed; the index has its order. A
// long text is not even read for it.
const newestActs = `SELECT id, timestamp, upvotes, photo, photo_type, photo_size,
	octet_length(username) + octet_length(caption),
	CASE WHEN octet_length(username) + octet_length(caption) <= ?4 THEN username END,
	CASE WHEN octet_length(username) + octet_length(caption) <= ?4 THEN caption END
	FROM acts WHERE category = ?1 ORDER BY at DESC, seq DESC LIMIT ?2 OFFSET ?3`

func (s *sqlStore) newest(ctx context.Context, category string, offset, limit int64) (out []act, err error) {
	rows, err := s.db.QueryContext(ctx, s.q(newestActs), category, limit, offset, longText)
	err = each(rows, err, func() error {
		a := act{Category: category}
		var username, caption sql.NullString
		if err := rows.Scan(&a.ID, &a.Timestamp, &a.Upvotes, &a.Photo.Key, &a.Photo.Type, &a.Photo.Size, &a.LongText, &username, &caption); err != nil {
			return err
		}
		if caption.Valid {
			a.Username, a.Caption, a.LongText = username.String, caption.String, 0
		}
		out = append(out, a)
		return nil
	})
	return out, err
}

func (s *sqlStore) texts(ctx context.Context, photos []string, visit func(photo, username, caption string) error) error {
	marks, args := oneOf(photos)
	rows, err := s.db.QueryContext(ctx, s.q("SELECT photo, username, caption FROM acts WHERE photo IN ("+marks+")"), args...)
	return each(rows, err, func() error {
		var photo, username, caption string
		if err := rows.Scan(&photo, &username, &caption); err != nil {
			return err
		}
		return visit(photo, username, caption)
	})
}

// oneOf is what stands in the brackets of IN (…), and what it stands for.
func oneOf(keys []string) (marks string, args []any) {
	for i, k := range keys {
		marks += fmt.Sprintf(", ?%d", i+1)
		args = append(args, k)
	}
	return strings.TrimPrefix(marks, ", "), args
}

func (s *sqlStore) addAct(ctx context.Context, a act, knownUser bool) (field string, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if !knownUser {
			var known bool
			if err := tx.QueryRowContext(ctx, s.q("SELECT EXISTS (SELECT 1 FROM users WHERE name = ?1)"), a.Username).Scan(&known); err != nil {
				return err
			}
			if !known {
				field = "username"
				return errUnknown
			}
		}
		r, err := tx.ExecContext(ctx, s.q("UPDATE categories SET acts = acts + 1, version = ?2 WHERE name = ?1"), a.Category, newVersion())
		if err = one(r, err, errUnknown); err != nil {
			field = "categoryName"
			return err
		}
		r, err = tx.ExecContext(ctx, s.q(`INSERT INTO acts (id, username, category, at, timestamp, caption, photo, photo_type, photo_size)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING`),
			a.ID, a.Username, a.Category, a.At.Unix(), a.Timestamp, a.Caption, a.Photo.Key, a.Photo.Type, a.Photo.Size)
		if err = one(r, err, errExists); err != nil {
			field = "actId"
		}
		return err
	})
	if err != nil && s.foreign(err) {
		return "categoryName", errUnknown
	}
	return field, err
}

func (s *sqlStore) removeAct(ctx context.Context, id int64) (key string, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		category, err := s.change(ctx, tx, id, -1)
		if err != nil {
			return err
		}
		return unknown(tx.QueryRowContext(ctx, s.q("DELETE FROM acts WHERE id = ?1 AND category = ?2 RETURNING photo"), id, category).Scan(&key))
	})
	return key, err
}

func (s *sqlStore) upvote(ctx context.Context, id int64) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		category, err := s.change(ctx, tx, id, 0)
		if err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, s.q("UPDATE acts SET upvotes = upvotes + 1 WHERE id = ?1 AND category = ?2"), id, category)
		return one(r, err, errUnknown)
	})
}

func (s *sqlStore) photo(ctx context.Context, id int64) (p photo, err error) {
	err = s.db.QueryRowContext(ctx, s.q("SELECT photo, photo_type, photo_size FROM acts WHERE id = ?1"), id).Scan(&p.Key, &p.Type, &p.Size)
	return p, unknown(err)
}

func (s *sqlStore) referenced(ctx context.Context, keys []string) (map[string]bool, error) {
	marks, args := oneOf(keys)
	have, err := column(s.db.QueryContext(ctx, s.q("SELECT photo FROM acts WHERE photo IN ("+marks+")"), args...))
	out := map[string]bool{}
	for _, k := range have {
		out[k] = true
	}
	return out, err
}
