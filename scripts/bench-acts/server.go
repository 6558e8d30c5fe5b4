package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// acts is the service, running.
type acts struct {
	cmd *exec.Cmd
	dir string
	url string
}

func startActs(ctx context.Context, program, dir string, p *postgres) (*acts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &acts{dir: dir, cmd: exec.CommandContext(ctx, program, "--listen", "127.0.0.1:0", "--data", dir)}
	s.cmd.Env = os.Environ()
	if p != nil {
		s.cmd.Env = append(s.cmd.Env, "ACTS_DATABASE="+p.dsn())
	}
	said, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run make build first", err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		var line struct{ Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Addr != "" {
			s.url = "http://" + line.Addr
			break
		}
	}
	if s.url == "" {
		return nil, errors.Join(errors.New("acts ended before it served"), s.cmd.Wait())
	}
	go func() { // its log; it ends with the program
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}()
	return s, nil
}

func (s *acts) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// tick is the unit of /proc's processor times (USER_HZ, 100 on Linux).
const tick = 10 * time.Millisecond

// cpu is the processor time of the service so far.
func (s *acts) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if err != nil || !ok || len(f) < 13 {
		return 0
	}
	own, _ := strconv.Atoi(f[11])
	kernel, _ := strconv.Atoi(f[12])
	return time.Duration(own+kernel) * tick
}

// peak is the most memory that it had.
func (s *acts) peak() string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return fmt.Sprintf("%d MiB", kb/1024)
		}
	}
	return "unknown"
}

// fill puts the large category into the database itself: through the API it would take
// minutes.
func (s *acts) fill(ctx context.Context, n int, p *postgres) error {
	driver, dsn, numbers := "sqlite", "file:"+filepath.Join(s.dir, "acts.db"), "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < $1) "
	from := "x"
	if p != nil {
		driver, dsn, numbers, from = "pgx", p.dsn(), "", "generate_series(1, $1::bigint) x(n)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "INSERT INTO categories (name, acts) VALUES ('big', $1)", n); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO acts (id, username, category, at, timestamp, caption, photo, photo_type, photo_size) "+numbers+
		"SELECT 1000000000 + n, 'ann', 'big', n, '01-01-2020:00-00-00', 'a good deed', 'none/' || n, '', 0 FROM "+from, n)
	if err == nil {
		_, err = db.ExecContext(ctx, "ANALYZE")
	}
	return err
}

// postgres is a server of our own, on a unix socket.
type postgres struct {
	dir string
	cmd *exec.Cmd
}

var errNone = errors.New("no server is installed (apt-get install postgresql)")

func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, errNone
	}
	bin := filepath.Dir(found[len(found)-1])
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "acts", "-A", "trust", "-E", "UTF8")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, said)
	}
	p := &postgres{dir: dir, cmd: exec.Command(filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-k", dir, "-c", "listen_addresses=")}
	p.cmd.Dir, p.cmd.SysProcAttr = dir, as
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	db, err := sql.Open("pgx", p.dsn())
	if err != nil {
		p.stop()
		return nil, err
	}
	defer db.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		err := db.PingContext(ctx)
		if err == nil {
			return p, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			p.stop()
			return nil, err
		}
	}
}

func (p *postgres) dsn() string { return "postgres://acts@/postgres?host=" + p.dir }

func (p *postgres) stop() {
	p.cmd.Process.Signal(syscall.SIGINT) // fast shutdown
	p.cmd.Wait()
}
