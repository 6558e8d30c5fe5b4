package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// peer is a proxy that can be measured.
type peer struct {
	name    string
	program string // that has to be installed; "" is this one
	args    func(b *bench, addr, dir string) []string
	file    string // its configuration
	config  func(b *bench, addr, dir string) string
}

var allPeers = []peer{
	{name: "own", args: func(b *bench, addr, _ string) []string { return b.own(addr, b.options.procs, false) }},
	{name: "nethttp", args: func(b *bench, addr, _ string) []string { return b.own(addr, "0", true) }},
	{name: "haproxy", program: "haproxy", file: "haproxy.cfg", config: haproxy,
		args: func(_ *bench, _, dir string) []string {
			return []string{"-db", "-f", filepath.Join(dir, "haproxy.cfg")}
		}},
	{name: "nginx", program: "nginx", file: "nginx.conf", config: nginx,
		args: func(_ *bench, _, dir string) []string {
			return []string{"-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", filepath.Join(dir, "nginx.conf")}
		}},
	{name: "caddy", program: "caddy", file: "Caddyfile", config: caddy,
		args: func(_ *bench, _, dir string) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(dir, "Caddyfile")}
		}},
}

// ownWith is our path with another GOMAXPROCS.
func ownWith(procs string) peer {
	return peer{name: "own@" + procs, args: func(b *bench, addr, _ string) []string { return b.own(addr, procs, false) }}
}

// before is the path of another build.
func before(program string) peer {
	return peer{name: "before", program: program, args: func(b *bench, addr, _ string) []string { return b.own(addr, "0", false) }}
}

func peerNames() (out []string) {
	for _, p := range allPeers {
		out = append(out, p.name)
	}
	return out
}

func haproxy(b *bench, addr, _ string) string {
	s := fmt.Sprintf(`global
  maxconn 10200
  no strict-limits
  nbthread %d
defaults
  mode http
  timeout connect 500ms
  timeout client 75s
  timeout server 30s
  timeout http-request 10s
  option forwardfor
  option splice-auto
  http-reuse always
frontend in
  bind %s
  default_backend rows
backend rows
  balance roundrobin
`, b.options.threads, addr)
	for i, a := range b.backends {
		s += fmt.Sprintf("  server r%d %s maxconn 1024\n", i, a)
	}
	return s
}

func nginx(b *bench, addr, dir string) string {
	rows := ""
	for _, a := range b.backends {
		rows += "    server " + a + ";\n"
	}
	return fmt.Sprintf(`worker_processes %d;
daemon off;
pid %s/pid;
error_log %s/error.log;
events { worker_connections 8000; }
http {
  access_log off;
  client_body_temp_path %s/body;
  proxy_temp_path %s/proxy;
  fastcgi_temp_path %s/f;
  uwsgi_temp_path %s/u;
  scgi_temp_path %s/s;
  keepalive_requests 100000000;
  client_max_body_size 16m;
  upstream rows {
%s    keepalive 512;
    keepalive_requests 100000000;
  }
  server {
    listen %s backlog=4096;
    location / {
      proxy_pass http://rows;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_request_buffering off;
    }
  }
}
`, b.options.threads, dir, dir, dir, dir, dir, dir, dir, rows, addr)
}

func caddy(b *bench, addr, _ string) string {
	return fmt.Sprintf(`{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://%s {
  reverse_proxy %s {
    lb_policy round_robin
  }
}
`, addr, strings.Join(b.backends, " "))
}

// process is a program that runs.
type process struct {
	name string
	addr string
	cmd  *exec.Cmd
}

// bench is what runs while it is measured.
type bench struct {
	options  options
	dir      string
	self     string
	backends []string
	running  []*process // peers
	others   []*process
}

// newBench starts the backends.
func newBench(ctx context.Context, o options, dir string) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, self: self}
	for range 3 {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		b.backends = append(b.backends, addr)
	}
	p, err := b.spawn(ctx, "backend", b.backends[0], self, "-role=backend", "-addr="+strings.Join(b.backends, ","))
	if err != nil {
		return nil, err
	}
	b.others = append(b.others, p)
	return b, nil
}

// own are the arguments of this program as a proxy.
func (b *bench) own(addr, procs string, nethttp bool) []string {
	return []string{
		"-role=proxy", fmt.Sprintf("-nethttp=%t", nethttp), "-procs=" + procs, "-profile=" + b.options.profile,
		"-addr=" + addr + "," + strings.Join(b.backends, ","),
	}
}

// launch starts a peer; one that is not installed is left out.
func (b *bench) launch(ctx context.Context, p peer) error {
	program := b.self
	if p.program != "" {
		path, err := exec.LookPath(p.program)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is not installed and left out\n", p.program)
			return nil
		}
		program = path
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, p.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if p.config != nil {
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.config(b, addr, dir)), 0o644); err != nil {
			return err
		}
	}
	x, err := b.spawn(ctx, p.name, addr, program, p.args(b, addr, dir)...)
	if err != nil {
		return err
	}
	b.running = append(b.running, x)
	return nil
}

// spawn starts a program and waits until it listens.
func (b *bench) spawn(ctx context.Context, name, addr, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	said := &strings.Builder{}
	cmd.Stderr = said // they greet there too: it is shown when they do not start
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{name, addr, cmd}
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return p, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("%s does not listen on %s", name, addr), p.end(), errors.New(said.String()))
		}
	}
}

func (p *process) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	p.cmd.Wait() // a program that was told to end may say anything
	return nil
}

func (b *bench) stop() error {
	var errs []error
	for _, p := range append(b.running, b.others...) {
		if err := p.end(); err != nil {
			errs = append(errs, fmt.Errorf("end %s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// freeAddr is an address of this machine that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
