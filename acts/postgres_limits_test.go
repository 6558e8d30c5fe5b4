package acts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// limit: a category that is made can have acts, however long its name is.
func (s *server) limit(t *testing.T) {
	url := serving(t, opened(t, Config{Data: t.TempDir(), Database: s.dsn()})).URL
	settled(t, url)
	taken, refused := 0, 0
	for n := 2600; n <= 2720; n++ { // about a third of a page is what an index takes
		name := base64.RawURLEncoding.EncodeToString(noise(n, n))[:n] // does not compress
		status, answer, _ := ask(t, url, "POST", "/api/v1/categories", fmt.Sprintf("[%q]", name))
		switch {
		case status == 400 && n > 2600 && strings.Contains(answer, "too long"):
			refused = max(refused, n)
			continue
		case status != 201:
			t.Fatalf("%d bytes: %d %s", n, status, answer)
		}
		taken = n
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(n, map[string]any{"categoryName": name})); status != 201 {
			t.Errorf("an act in a category of %d bytes: %d %s", n, status, answer)
		}
		if status, _, _ := ask(t, url, "GET", "/api/v1/categories/"+name+"/acts?images=0", ""); status != 200 {
			t.Errorf("a category of %d bytes: %d", n, status)
		}
		if status, _, _ := ask(t, url, "DELETE", "/api/v1/categories/"+name, ""); status != 200 {
			t.Errorf("remove a category of %d bytes: %d", n, status)
		}
	}
	t.Logf("%d bytes are taken, %d are not", taken, refused)
	if refused == 0 {
		t.Error("no name is too long")
	}
}

// rollOut: the rows of processes that run when the table learns of time are not taken for
// those of processes that are gone.
func (s *server) rollOut(t *testing.T) {
	p, err := openPostgres(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.db.ExecContext(t.Context(), "CREATE DATABASE rollout")
	if err := errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(s.dsn(), "/postgres?", "/rollout?", 1)
	before(t, dsn, 2, "INSERT INTO counts VALUES ('runs', 7)")
	if p, err = openPostgres(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := openPostgresCounter(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var n int
	if err := p.db.QueryRowContext(t.Context(), "SELECT n FROM counts WHERE process = 'runs'").Scan(&n); n != 7 || err != nil {
		t.Errorf("the row of a process that runs: %d, %v", n, err)
	}
}

// crash: what was reset stays so when the server ends without a word, and reads its log
// when it starts again.
func (s *server) crash(t *testing.T) {
	p, err := openPostgres(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := openPostgresCounter(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 1000 {
		c.add()
	}
	if n, err := c.read(t.Context()); n != 1000 || err != nil {
		t.Fatalf("%d requests of 1000, %v", n, err)
	}
	if err := c.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.cmd.Process.Signal(syscall.SIGQUIT) // immediate shutdown: every process of it is killed where it stands
	s.cmd.Wait()
	s.start(t)
	s.ready(t)
	c.add()
	n, err := c.read(t.Context())
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); { // over connections that are gone
		n, err = c.read(t.Context())
	}
	if n != 1 || err != nil {
		t.Errorf("%d requests after a reset, a crash and one more, %v", n, err)
	}
}

// before brings a new database to an old version, and runs a statement of that.
func before(t *testing.T, dsn string, version int64, statement string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	files, err := fs.Sub(migrations, "migrations/postgres")
	if err != nil {
		t.Fatal(err)
	}
	up, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
