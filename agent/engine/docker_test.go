package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func dockerBench(t *testing.T) bench {
	return bench{
		contract: newDockerT(t), image: built.image,
		pause:  func(t *testing.T, c Container) { docker(t, "pause", c.ID) },
		murder: func(t *testing.T, c Container) { docker(t, "kill", c.ID) },
		leave: func(t *testing.T, s Spec) {
			args := []string{"create", "--name", s.Name}
			for k, v := range s.Labels {
				args = append(args, "--label", k+"="+v)
			}
			docker(t, append(args, s.Image)...)
		},
	}
}

// forwarder stands between client and engine, and can be cut.
type forwarder struct {
	path string
	mu   sync.Mutex
	l    net.Listener
	open map[net.Conn]struct{}
	wg   sync.WaitGroup
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	// Not t.TempDir(): a unix socket's path has at most 108 bytes.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{path: filepath.Join(dir, "docker.sock"), open: map[net.Conn]struct{}{}}
	t.Cleanup(func() {
		f.cut()
		os.RemoveAll(dir)
	})
	return f
}

func (f *forwarder) client(t *testing.T) *Docker {
	t.Helper()
	d, err := NewDocker("unix://" + f.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// listen hands connections to serve, or to the real engine when it is nil.
func (f *forwarder) listen(t *testing.T, serve func(net.Conn)) {
	t.Helper()
	if serve == nil {
		serve = f.forward
	}
	l, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.l = l
	f.mu.Unlock()
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if f.keep(c) {
				f.wg.Go(func() { serve(c) })
			}
		}
	})
}

// keep notes a connection for the cut; after that it is closed at once.
func (f *forwarder) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.l == nil {
		c.Close()
		return false
	}
	f.open[c] = struct{}{}
	return true
}

func (f *forwarder) forward(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("unix", "/var/run/docker.sock")
	if err != nil || !f.keep(up) {
		return
	}
	defer up.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(up, c)
		up.Close()
	})
	io.Copy(c, up)
	c.Close()
	wg.Wait()
}

// cut breaks every connection and refuses new ones.
func (f *forwarder) cut() {
	f.mu.Lock()
	if f.l != nil {
		f.l.Close()
		f.l = nil
	}
	for c := range f.open {
		c.Close()
	}
	clear(f.open)
	f.mu.Unlock()
	f.wg.Wait()
}

// What happens while the stream of events is broken is told when it is back, after
// the order to look for oneself.
func TestDockerEventsReopen(t *testing.T) {
	b := dockerBench(t)
	f := newForwarder(t)
	f.listen(t, nil)
	d := f.client(t)
	s := b.spec(t)
	next := func(events <-chan Event) Event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event within 10 s")
			return Event{}
		}
	}
	events := d.Events(t.Context(), map[string]string{"case": t.Name()})
	c := b.run(t, s)
	if e := next(events); e.Kind != "start" || e.ID != c.ID {
		t.Fatalf("the first event is %+v", e)
	}
	f.cut()
	docker(t, "kill", c.ID)
	f.listen(t, nil)
	if e := next(events); e.Kind != Resync {
		t.Fatalf("the first event after the gap is %+v", e)
	}
	for _, kind := range []string{"kill", "die"} {
		e := next(events)
		for e.Kind == Resync { // a busy machine may take two tries to connect again
			e = next(events)
		}
		if e.Kind != kind || e.ID != c.ID {
			t.Fatalf("event %+v; want the %s of the gap", e, kind)
		}
	}
	if err := d.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if e := next(events); e.Kind != "destroy" {
		t.Fatalf("event %+v; want destroy, and none twice", e)
	}
}

// An engine that is down is no engine without containers, and the first answer
// later fixes a version that it speaks.
func TestDockerUnavailableThenThere(t *testing.T) {
	b := dockerBench(t)
	f := newForwarder(t)
	d := f.client(t)
	s := b.spec(t)
	if err := d.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("ping of no engine: %v; want ErrUnavailable", err)
	}
	_, inspectErr := d.Inspect(t.Context(), "nobody")
	_, listErr := d.List(t.Context(), nil)
	_, runErr := d.Run(t.Context(), s)
	_, imageErr := d.HasImage(t.Context(), s.Image)
	_, replaceErr := d.Replace(t.Context(), "nobody", s)
	for what, err := range map[string]error{
		"inspect": inspectErr, "list": listErr, "run": runErr, "has image": imageErr, "replace": replaceErr,
		"kill": d.Kill(t.Context(), "nobody"), "stop": d.Stop(t.Context(), "nobody", 0),
		"logs": d.Logs(t.Context(), "nobody", false, 0, io.Discard),
	} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s without an engine: %v; want ErrUnavailable", what, err)
		}
	}
	// The first ping breaks off, the next goes through.
	first := true
	f.listen(t, func(c net.Conn) {
		f.mu.Lock()
		broken := first
		first = false
		f.mu.Unlock()
		if broken {
			c.Close()
			return
		}
		f.forward(c)
	})
	if _, err := d.Run(t.Context(), s); err != nil {
		t.Fatalf("run after the engine came: %v", err)
	}
	speaks := docker(t, "version", "--format", "{{.Server.APIVersion}}")
	if got := d.cli.ClientVersion(); got > speaks {
		t.Fatalf("the client speaks version %s, the engine %s", got, speaks)
	}
	f.cut()
	if _, err := d.List(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("list of an engine that went: %v; want ErrUnavailable", err)
	}
}

// An engine that accepts and never answers holds nobody beyond the deadline.
func TestDockerHangs(t *testing.T) {
	f := newForwarder(t)
	f.listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	d := f.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := d.List(ctx, nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("list of a hung engine: %v; want ErrUnavailable", err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Fatalf("a deadline of 200 ms took %s", took)
	}
}

// A stranger without labels keeps its name, and its life.
func TestDockerStranger(t *testing.T) {
	b := dockerBench(t)
	s := b.spec(t)
	id := docker(t, "create", "--name", s.Name, s.Image)
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrNameTaken) {
		t.Fatalf("run by a stranger's name: %v; want ErrNameTaken", err)
	}
	if got := docker(t, "inspect", "-f", "{{.Id}} {{.State.Status}}", s.Name); got != id+" created" {
		t.Fatalf("the stranger is now %s", got)
	}
}

// What a container may do on the machine.
func TestDockerHardening(t *testing.T) {
	b := dockerBench(t)
	s := b.spec(t)
	s.PidsLimit = 0
	c := b.run(t, s)
	for field, want := range map[string]string{
		"{{.HostConfig.RestartPolicy.Name}}":    "no",
		"{{.HostConfig.CapDrop}}":               "[ALL]",
		"{{.HostConfig.SecurityOpt}}":           "[no-new-privileges]",
		"{{.HostConfig.ReadonlyRootfs}}":        "true",
		"{{.HostConfig.Privileged}}":            "false",
		"{{.HostConfig.PidsLimit}}":             "256",
		"{{.HostConfig.Memory}}":                "67108864",
		"{{.HostConfig.NanoCpus}}":              "1000000000",
		"{{json .HostConfig.Tmpfs}}":            `{"/tmp":"` + tmpfsOptions + `"}`,
		"{{json .HostConfig.LogConfig.Config}}": `{"max-file":"2","max-size":"10m"}`,
		"{{json .HostConfig.PortBindings}}":     `{"8000/tcp":[{"HostIp":"` + s.HostIP + `","HostPort":"` + strings.TrimPrefix(s.addr(), s.HostIP+":") + `"}]}`,
	} {
		if got := docker(t, "inspect", "-f", field, c.ID); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
}

func TestDockerOutOfMemory(t *testing.T) {
	b := dockerBench(t)
	s := b.spec(t)
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	if _, err := get(s.addr(), "/grow"); err == nil {
		t.Fatal("a container of 64 MiB took 1 GiB")
	}
	eventually(t, "out of memory", func() bool { // Docker may hear of that after the end
		c, err := b.Inspect(t.Context(), c.ID)
		return err == nil && b.state(t, c.ID) == "exited" && c.Reason == "out of memory" && c.ExitCode == 137
	})
}

// A start that fails for a reason of its own leaves nothing, and says the reason.
func TestDockerStartRefused(t *testing.T) {
	b := dockerBench(t)
	s := b.spec(t)
	s.User = "nobody-such"
	_, err := b.Run(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "nobody-such") || errors.Is(err, ErrPortTaken) {
		t.Fatalf("run as a user that is not there: %v", err)
	}
	b.absent(t, s.Name)
}
