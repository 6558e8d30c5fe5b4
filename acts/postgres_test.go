package acts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a PostgreSQL of the test's own, on a unix socket.
type server struct {
	bin, dir string
	as       *syscall.SysProcAttr // whom it runs as
	cmd      *exec.Cmd
}

// postgresServer starts Debian's server in a new folder. Where there is none the test
// is skipped, but not in CI.
func postgresServer(t testing.TB) *server {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("no PostgreSQL server is installed (apt-get install postgresql)")
		}
		t.Skip("no PostgreSQL server is installed (apt-get install postgresql)")
	}
	slices.Sort(found)
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir(): the server's user must get in, and a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := osuser.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "acts", "-A", "trust", "-E", "UTF8", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s := &server{bin: bin, dir: dir, as: as}
	s.start(t)
	t.Cleanup(func() {
		s.cmd.Process.Signal(syscall.SIGCONT)
		s.cmd.Process.Signal(syscall.SIGINT) // fast shutdown
		s.cmd.Wait()
	})
	return s
}

// start starts it over what is in its folder.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=150")
	s.cmd.Dir, s.cmd.SysProcAttr = s.dir, s.as
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) dsn() string { return fmt.Sprintf("postgres://acts@/postgres?host=%s", s.dir) }

// ready waits until it answers.
func (s *server) ready(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		p, err := openPostgres(t.Context(), s.dsn())
		if err == nil {
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// wipe empties the database between tests.
func (s *server) wipe(t testing.TB) {
	t.Helper()
	p, err := openPostgres(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.db.ExecContext(t.Context(), "TRUNCATE users, categories, acts, counts"); err != nil {
		t.Fatal(err)
	}
}

// TestPostgres runs everything that needs the server.
func TestPostgres(t *testing.T) {
	s := postgresServer(t)
	t.Run("ten start at once", func(t *testing.T) {
		s.waitSocket(t)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				p, err := openPostgres(t.Context(), s.dsn())
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.ping(t.Context()); err != nil {
					t.Error(err)
				}
				p.Close()
			})
		}
		wg.Wait()
	})
	s.ready(t)
	t.Run("store", func(t *testing.T) {
		storeContract(t, func(t *testing.T) store {
			s.wipe(t)
			p, err := openPostgres(t.Context(), s.dsn())
			if err != nil {
				t.Fatal(err)
			}
			return p
		})
	})
	t.Run("contract", func(t *testing.T) {
		s.wipe(t)
		contractOver(t, Config{Data: t.TempDir(), Database: s.dsn()}, Config{Data: t.TempDir(), Database: s.dsn()})
	})
	t.Run("plan", func(t *testing.T) { s.wipe(t); s.plan(t) })
	t.Run("long names", func(t *testing.T) {
		s.wipe(t)
		longNames(t, Config{Data: t.TempDir(), Database: s.dsn()}, 400)
	})
	t.Run("names at the limit", func(t *testing.T) { s.wipe(t); s.limit(t) })
	t.Run("roll-out", func(t *testing.T) { s.rollOut(t) })
	t.Run("strange paths", func(t *testing.T) { strangePaths(t, Config{Data: t.TempDir(), Database: s.dsn()}) })
	t.Run("nothing is a fault", func(t *testing.T) {
		s.wipe(t)
		x := opened(t, Config{Data: t.TempDir(), Database: s.dsn()})
		for _, r := range fuzzSeeds {
			noFault(t, x, r.method, r.path, r.body)
		}
	})
	t.Run("counts", func(t *testing.T) { s.wipe(t); s.counts(t) })
	t.Run("crash", func(t *testing.T) { s.wipe(t); s.crash(t) })
	t.Run("dead", func(t *testing.T) { s.dead(t) })
}

// waitSocket waits for the server to listen, before anything has been migrated.
func (s *server) waitSocket(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		cfg := exec.Command("psql", "-h", s.dir, "-U", "acts", "postgres", "-c", "SELECT 1")
		if cfg.Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not listen")
		}
	}
}

// plan: the first page of a hundred thousand acts is read from the index.
func (s *server) plan(t *testing.T) {
	p, err := openPostgres(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	for _, statement := range []string{
		"INSERT INTO categories VALUES ('big', 100000), ('small', 10)",
		"INSERT INTO acts (id, username, category, at, timestamp, caption, photo, photo_type, photo_size) SELECT n, 'ann', 'big', n, '', '', 'k' || n, '', 0 FROM generate_series(1, 100000) n",
		"ANALYZE acts",
	} {
		if _, err := p.db.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := column(p.db.QueryContext(ctx, "EXPLAIN ANALYZE "+p.q(newestActs), "big", 20, 0, longText))
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	t.Log(plan)
	if !strings.Contains(plan, "Index Scan using acts_newest") || strings.Contains(plan, "Sort") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("the first page is not read from the index:\n%s", plan)
	}
}

// counts: what processes that are gone have counted stays, in one row.
func (s *server) counts(t *testing.T) {
	open := func() (*postgresStore, *postgresCounter) {
		p, err := openPostgres(t.Context(), s.dsn())
		if err != nil {
			t.Fatal(err)
		}
		c, err := openPostgresCounter(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return p, c
	}
	stays, c := open()
	defer func() {
		if err := errors.Join(c.Close(), stays.Close()); err != nil {
			t.Error(err)
		}
	}()
	c.add()
	for i := range 5 {
		p, x := open()
		x.add()
		if err := x.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i < 3 { // these end well
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		} else { // as if killed, a long time ago
			x.stop()
			<-x.ended
			if _, err := p.db.ExecContext(t.Context(), "UPDATE counts SET at = at - $1 WHERE process = $2", int64(2*deadAfter/time.Second), x.process); err != nil {
				t.Error(err)
			}
		}
		p.Close()
	}
	p, last := open() // it finds the dead
	if err := errors.Join(last.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if n, err := c.read(t.Context()); n != 6 || err != nil {
		t.Errorf("%d requests of 6, %v", n, err)
	}
	var rows int
	if err := stays.db.QueryRowContext(t.Context(), "SELECT count(*) FROM counts").Scan(&rows); err != nil || rows > 2 {
		t.Errorf("%d rows for one process that runs and seven that are gone, %v", rows, err)
	}
	c.add()
	if err := c.reset(t.Context()); err != nil {
		t.Error(err)
	}
	c.add()
	if n, err := c.read(t.Context()); n != 1 || err != nil {
		t.Errorf("%d requests after a reset and one more, %v", n, err)
	}
}

// dead: a server that is stopped or gone is told within a second, and again well when
// it is back.
func (s *server) dead(t *testing.T) {
	x := opened(t, Config{Data: t.TempDir(), Database: s.dsn()})
	url := serving(t, x).URL
	health := func() (int, time.Duration) {
		begin := time.Now()
		status, _, _ := ask(t, url, "GET", "/api/v1/_health", "")
		return status, time.Since(begin)
	}
	if status, _ := health(); status != 200 {
		t.Fatalf("alive: %d", status)
	}
	s.each(syscall.SIGSTOP)
	status, took := health()
	s.each(syscall.SIGCONT)
	if status != 500 || took > 5*time.Second {
		t.Errorf("stopped: %d after %s", status, took)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if status, _ := health(); status == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("it goes on, but health says %d", status)
			break
		}
	}
	s.cmd.Process.Signal(syscall.SIGINT)
	s.cmd.Wait()
	if status, took := health(); status != 500 || took > time.Second {
		t.Errorf("gone: %d after %s", status, took)
	}
}

// each sends a signal to every process of the server, for each has its connection.
func (s *server) each(sig syscall.Signal) {
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(s.cmd.Process.Pid)).Output()
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil {
			syscall.Kill(pid, sig)
		}
	}
	s.cmd.Process.Signal(sig)
}

// TestDSNIsASecret: no error has it.
func TestDSNIsASecret(t *testing.T) {
	for _, dsn := range []string{"postgres://u:hunter2@[::1/x", "host=/nowhere password=hunter2 sslmode=nonsense", "postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := openPostgres(ctx, dsn)
		cancel()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}
