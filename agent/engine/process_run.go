package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
)

// Run starts a container, or adopts the running one of that name that has all the
// labels; one of ours by that name that does not run is removed and made anew.
func (p *Process) Run(ctx context.Context, s Spec) (Container, error) {
	c, err := p.run(ctx, s)
	if err != nil {
		return Container{}, fmt.Errorf("run %s: %w", s.Name, err)
	}
	return c, nil
}

func (p *Process) run(ctx context.Context, s Spec) (Container, error) {
	if err := s.check(); err != nil {
		return Container{}, err
	}
	unlock, err := p.names.lock(ctx, s.Name)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	if c, err := p.find(s.Name); err == nil {
		now := p.look(c)
		switch {
		case !hasLabels(now.Labels, s.Labels):
			return Container{}, fmt.Errorf("%w: container %.12s", ErrNameTaken, now.ID)
		case now.State == stateRunning:
			return now, nil
		}
		if err := p.Kill(ctx, now.ID); err != nil {
			return Container{}, err
		}
	}
	if ok, err := p.HasImage(ctx, s.Image); err != nil || !ok {
		return Container{}, errors.Join(err, fmt.Errorf("%w: no executable stands for %s", ErrNoImage, s.Image))
	}
	cmd, err := p.command(s)
	if err != nil {
		return Container{}, err
	}
	c, err := p.claim(s)
	if err != nil {
		return Container{}, err
	}
	if err := p.start(c, cmd); err != nil {
		p.forget(c)
		return Container{}, err
	}
	return p.look(c), nil
}

// claim takes the name and the port, in memory and on disk.
func (p *Process) claim(s Spec) (*child, error) {
	s = s.withDefaults()
	size, err := units.RAMInBytes(s.LogMaxSize)
	if err != nil {
		return nil, fmt.Errorf("log size %q: write it as 10m: %w", s.LogMaxSize, err)
	}
	var id [16]byte
	rand.Read(id[:])
	c := &child{record: record{
		ID: hex.EncodeToString(id[:]), Name: s.Name, Image: s.Image, Labels: s.Labels, State: stateCreated,
		HostIP: s.HostIP, HostPort: s.HostPort, Created: time.Now(), LogMaxBytes: size, LogMaxFiles: s.LogMaxFiles,
	}, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	// A process that has just started may not listen yet, so asking the kernel is
	// not enough.
	for _, o := range p.list {
		if o.State != stateExited && o.addr() == c.addr() {
			return nil, fmt.Errorf("%w: by container %s", ErrPortTaken, o.Name)
		}
	}
	l, err := net.Listen("tcp", c.addr())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: %w", ErrPortTaken, err)
	case err != nil:
		return nil, fmt.Errorf("publish on an address and port that this user may use: %w", err)
	}
	l.Close()
	if err := c.save(p.cfg.Dir); err != nil {
		return nil, err
	}
	p.list[c.ID] = c
	return c, nil
}

// command is what stands for the container: no environment of the daemon's, no
// terminal, a session of its own.
func (p *Process) command(s Spec) (*exec.Cmd, error) {
	user := s.User
	if p.cfg.KeepUser || os.Geteuid() != 0 {
		user = ""
	}
	if err := makeVolumes(s.Mounts, user); err != nil {
		return nil, err
	}
	cmd := exec.Command(p.cfg.Binaries[s.Image], s.Command...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if uid, gid, ok := numericUser(user); ok {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		for _, m := range s.Mounts {
			if err := mayEnter(m.Source, uid, gid); err != nil {
				return nil, err
			}
		}
	}
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, e := range s.Env {
		k, v, _ := strings.Cut(e, "=")
		cmd.Env = append(cmd.Env, k+"="+onHost(v, s.Mounts))
	}
	addr := net.JoinHostPort(s.HostIP, strconv.Itoa(s.HostPort))
	// Later ones win.
	cmd.Env = append(cmd.Env, "PORT="+strconv.Itoa(s.HostPort), "LISTEN="+addr, p.cfg.ListenEnv+"="+addr)
	return cmd, nil
}

// onHost turns a path in the container into the folder of the machine behind it.
func onHost(v string, mounts []Mount) string {
	for _, m := range mounts {
		if v == m.Target {
			return m.Source
		}
		if rest, ok := strings.CutPrefix(v, strings.TrimSuffix(m.Target, "/")+"/"); ok {
			return m.Source + "/" + rest
		}
	}
	return v
}

// start runs the process; a record that says "created" and a process that bears
// its ID find each other again should the daemon die between the two.
func (p *Process) start(c *child, cmd *exec.Cmd) error {
	logFile, err := os.OpenFile(c.logPath(p.cfg.Dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = append(cmd.Env, markEnv+"="+c.ID)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	proc, err := identify(cmd.Process.Pid) // it is a zombie at least, until waited for
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Process, c.State, c.own = proc, stateRunning, true
	go p.wait(c, cmd)
	if err == nil {
		err = c.save(p.cfg.Dir)
	}
	if err != nil {
		proc.killGroup()
		return err
	}
	p.hub.tell(c.event("start"))
	return nil
}

// wait ends with the child, which may outlive Close and this daemon.
func (p *Process) wait(c *child, cmd *exec.Cmd) {
	err := cmd.Wait()
	c.Process.killGroup() // what it left behind
	code, reason := cmd.ProcessState.ExitCode(), ""
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code, reason = 128+int(ws.Signal()), "ended by signal: "+ws.Signal().String()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		reason = err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(c, code, reason)
}
