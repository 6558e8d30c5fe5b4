package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// contract is what both engines keep; callers declare their own.
type contract interface {
	Name() string
	Ping(ctx context.Context) error
	HasImage(ctx context.Context, image string) (bool, error)
	Run(ctx context.Context, s Spec) (Container, error)
	Replace(ctx context.Context, old string, s Spec) (Container, error)
	List(ctx context.Context, labels map[string]string) ([]Container, error)
	Inspect(ctx context.Context, id string) (Container, error)
	Kill(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error
	Logs(ctx context.Context, id string, follow bool, tail int, w io.Writer) error
	Events(ctx context.Context, labels map[string]string) <-chan Event
	Close() error
}

// bench is one engine under test, and what is done to its containers from outside.
type bench struct {
	contract
	image  string
	pause  func(t *testing.T, c Container)
	murder func(t *testing.T, c Container) // SIGKILL, not by the engine
	leave  func(t *testing.T, s Spec)      // leaves s in the state created
}

func TestContract(t *testing.T) {
	cases := []struct {
		name string
		run  func(t *testing.T, b bench)
	}{
		{"RunThenListThenStop", runListStop},
		{"RunTwiceAdopts", runTwice},
		{"RunAtOnceStartsOne", runAtOnce},
		{"KillIsAtOnceAndTwice", killTwice},
		{"KillPaused", killPaused},
		{"StopPaused", stopPaused},
		{"StopWaitsForGraceThenKills", stopDeaf},
		{"ExitAtStart", exitAtStart},
		{"RunAfterExitMakesAnew", runAfterExit},
		{"LeftoverCreatedIsMadeAnew", leftoverCreated},
		{"PortOfContainerTaken", portOfContainer},
		{"PortOfProcessTaken", portOfProcess},
		{"NoImage", noImage},
		{"NameOfStranger", nameOfStranger},
		{"RefusedSpecs", refusedSpecs},
		{"NotFound", notFound},
		{"LogsFollowAndTail", logsFollow},
		{"EventsOfALife", eventsOfALife},
		{"Volume", volume},
		{"ReplaceOnOnePort", replaceOnOnePort},
		{"ReplaceRefusedLeavesNothing", replaceRefused},
	}
	benches := []struct {
		name string
		make func(t *testing.T) bench
	}{{"docker", dockerBench}, {"process", processBench}}
	for _, e := range benches {
		t.Run(e.name, func(t *testing.T) {
			b := e.make(t)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, b) })
			}
		})
	}
}

// spec of a container of this test alone, with a free port; whatever it becomes is
// removed at the test's end.
func (b bench) spec(t *testing.T, env ...string) Spec {
	t.Helper()
	name := "orch-engine-" + built.run + "-" + strings.ToLower(filepath.Base(t.Name()))
	s := Spec{
		Name: name, Image: b.image, Env: append([]string{"WHO=" + name}, env...),
		Labels: map[string]string{"orch.test": built.run, "case": t.Name()},
		HostIP: built.addr, HostPort: freePort(t), ContainerPort: 8000,
		MemoryBytes: 64 << 20, NanoCPUs: 1e9, PidsLimit: 64,
	}
	t.Cleanup(func() { b.kill(t, s.Name) })
	return s
}

func (b bench) kill(t *testing.T, id string) {
	if err := b.Kill(context.WithoutCancel(t.Context()), id); err != nil {
		t.Error(err)
	}
}

func (b bench) run(t *testing.T, s Spec) Container {
	t.Helper()
	c, err := b.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", built.addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually waits for a condition; what says what was waited for.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		case <-tick.C:
		}
	}
}

// get asks on a connection of its own, as a keep-alive one would outlive the container.
func get(addr, path string) (string, error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + addr + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return string(body), err
}

func answers(t *testing.T, addr, who string) {
	t.Helper()
	eventually(t, "an answer of "+who+" at "+addr, func() bool {
		body, err := get(addr, "/")
		return err == nil && body == "hello from "+who+"\n"
	})
}

func (s Spec) addr() string { return net.JoinHostPort(s.HostIP, fmt.Sprint(s.HostPort)) }

func (b bench) state(t *testing.T, id string) string {
	t.Helper()
	c, err := b.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c.State
}

func (b bench) absent(t *testing.T, id string) {
	t.Helper()
	if c, err := b.Inspect(t.Context(), id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("inspect of a removed container: %+v, %v; want ErrNotFound", c, err)
	}
}

func runListStop(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	if c.State != "running" || c.Name != s.Name || c.Image != s.Image || c.HostIP != s.HostIP || c.HostPort != s.HostPort {
		t.Fatalf("run gave %+v", c)
	}
	if since := time.Since(c.Created); since < 0 || since > time.Minute {
		t.Fatalf("created %s", c.Created)
	}
	answers(t, s.addr(), s.Name)
	answers(t, c.Addr, s.Name)
	list, err := b.List(t.Context(), s.Labels)
	if err != nil || len(list) != 1 {
		t.Fatalf("list gave %+v, %v", list, err)
	}
	l := list[0]
	if l.ID != c.ID || l.Name != c.Name || l.Image != c.Image || l.State != c.State || l.Addr != c.Addr ||
		l.HostIP != c.HostIP || l.HostPort != c.HostPort || !hasLabels(l.Labels, s.Labels) || c.Created.Unix() != l.Created.Unix() {
		t.Fatalf("list gave %+v, run %+v", l, c)
	}
	if list, err := b.List(t.Context(), map[string]string{"orch.test": built.run, "case": "another"}); err != nil || len(list) != 0 {
		t.Fatalf("list by a label that is not there gave %+v, %v", list, err)
	}
	begun := time.Now()
	for range 2 { // gone already is success
		if err := b.Stop(t.Context(), c.ID, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Fatalf("a stop that SIGTERM ends took %s", took)
	}
	b.absent(t, c.ID)
}

func runTwice(t *testing.T, b bench) {
	s := b.spec(t)
	first, second := b.run(t, s), b.run(t, s)
	if first.ID != second.ID || second.Addr != first.Addr {
		t.Fatalf("run gave %+v, then %+v", first, second)
	}
}

func runAtOnce(t *testing.T, b bench) {
	s := b.spec(t)
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			c, err := b.Run(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.ID
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == "" {
		t.Fatalf("run at once gave the containers %q", ids)
	}
	answers(t, s.addr(), s.Name)
}

func killTwice(t *testing.T, b bench) {
	s := b.spec(t, "DEAF=1")
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	for range 2 {
		if err := b.Kill(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.absent(t, c.ID)
	b.absent(t, s.Name)
	again := b.run(t, s) // the name and the port are free at once
	if again.ID == c.ID {
		t.Fatal("a killed container's ID came back")
	}
}

func killPaused(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	b.pause(t, c)
	eventually(t, "state paused", func() bool { return b.state(t, c.ID) == "paused" })
	if err := b.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	b.absent(t, c.ID)
}

func stopPaused(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	b.pause(t, c)
	eventually(t, "state paused", func() bool { return b.state(t, c.ID) == "paused" })
	if err := b.Stop(t.Context(), c.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	b.absent(t, c.ID)
}

func stopDeaf(t *testing.T, b bench) {
	s := b.spec(t, "DEAF=1")
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	begun := time.Now()
	if err := b.Stop(t.Context(), c.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
		t.Fatalf("stop with a grace of 1 s took %s", took)
	}
	b.absent(t, c.ID)
}

func exitAtStart(t *testing.T, b bench) {
	s := b.spec(t, "EXIT=7")
	if _, err := b.Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	eventually(t, "state exited", func() bool { return b.state(t, s.Name) == "exited" })
	list, err := b.List(t.Context(), s.Labels)
	if err != nil || len(list) != 1 || list[0].ExitCode != 7 || list[0].Addr != "" || list[0].HostPort != s.HostPort {
		t.Fatalf("list of a container that exited with 7 gave %+v, %v", list, err)
	}
	var out bytes.Buffer
	if err := b.Logs(t.Context(), s.Name, true, 0, &out); err != nil || !strings.Contains(out.String(), "line 2: told to exit 7") {
		t.Fatalf("its logs: %q, %v", out.String(), err)
	}
}

func runAfterExit(t *testing.T, b bench) {
	s := b.spec(t)
	first := b.run(t, s)
	b.murder(t, first)
	eventually(t, "state exited", func() bool { return b.state(t, first.ID) == "exited" })
	if c, err := b.Inspect(t.Context(), first.ID); err != nil || c.ExitCode != 137 {
		t.Fatalf("a killed container: %+v, %v; want exit code 137", c, err)
	}
	second := b.run(t, s)
	if second.ID == first.ID || second.State != "running" {
		t.Fatalf("run after an exit gave %+v", second)
	}
	answers(t, s.addr(), s.Name)
}

func leftoverCreated(t *testing.T, b bench) {
	s := b.spec(t)
	b.leave(t, s)
	left, err := b.Inspect(t.Context(), s.Name)
	if err != nil || left.State != "created" {
		t.Fatalf("the leftover is %+v, %v", left, err)
	}
	if c := b.run(t, s); c.ID == left.ID || c.State != "running" {
		t.Fatalf("run over a leftover gave %+v", c)
	}
	answers(t, s.addr(), s.Name)
}

func portOfContainer(t *testing.T, b bench) {
	holder := b.spec(t)
	b.run(t, holder)
	answers(t, holder.addr(), holder.Name)
	s := holder
	s.Name += "-second"
	t.Cleanup(func() { b.kill(t, s.Name) })
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrPortTaken) {
		t.Fatalf("run on a container's port: %v; want ErrPortTaken", err)
	}
	b.absent(t, s.Name) // keeps no name
}

func portOfProcess(t *testing.T, b bench) {
	s := b.spec(t)
	l, err := net.Listen("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrPortTaken) {
		t.Fatalf("run on a process's port: %v; want ErrPortTaken", err)
	}
	b.absent(t, s.Name)
	l.Close()
	b.run(t, s)
	answers(t, s.addr(), s.Name)
}

func noImage(t *testing.T, b bench) {
	s := b.spec(t)
	if ok, err := b.HasImage(t.Context(), s.Image); !ok || err != nil {
		t.Fatalf("has image: %v, %v", ok, err)
	}
	s.Image = "orch-engine-test:not-" + built.run
	if ok, err := b.HasImage(t.Context(), s.Image); ok || err != nil {
		t.Fatalf("has an image that is not there: %v, %v", ok, err)
	}
	if _, err := b.Run(t.Context(), s); !errors.Is(err, ErrNoImage) {
		t.Fatalf("run of no image: %v; want ErrNoImage", err)
	}
	b.absent(t, s.Name)
}

func nameOfStranger(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	other := s
	other.Labels = map[string]string{"orch.test": built.run, "case": "somebody else"}
	other.HostPort = freePort(t)
	if _, err := b.Run(t.Context(), other); !errors.Is(err, ErrNameTaken) {
		t.Fatalf("run by a stranger's name: %v; want ErrNameTaken", err)
	}
	if b.state(t, c.ID) != "running" {
		t.Fatal("the stranger does not run any more")
	}
}

func refusedSpecs(t *testing.T, b bench) {
	for what, change := range map[string]func(*Spec){
		"no publish address":   func(s *Spec) { s.HostIP = "" },
		"all addresses":        func(s *Spec) { s.HostIP = "0.0.0.0" },
		"all addresses, v6":    func(s *Spec) { s.HostIP = "::" },
		"all, mapped into v6":  func(s *Spec) { s.HostIP = "::ffff:0.0.0.0" },
		"a name for addresses": func(s *Spec) { s.HostIP = "localhost" },
		"not this machine's":   func(s *Spec) { s.HostIP = "192.0.2.1" },
		"no port":              func(s *Spec) { s.HostPort = 0 },
		"a path as its name":   func(s *Spec) { s.Name = "../" + s.Name },
		"a relative volume":    func(s *Spec) { s.Mounts = []Mount{{Source: "here", Target: "/data"}} },
	} {
		s := b.spec(t)
		change(&s)
		c, err := b.Run(t.Context(), s)
		if err == nil {
			t.Errorf("%s: ran as %+v", what, c)
			b.kill(t, c.ID)
		}
	}
	if list, err := b.List(t.Context(), map[string]string{"orch.test": built.run, "case": t.Name()}); err != nil || len(list) != 0 {
		t.Fatalf("refused specs left %+v, %v", list, err)
	}
}

func notFound(t *testing.T, b bench) {
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.absent(t, "orch-engine-nobody")
	if err := b.Logs(t.Context(), "orch-engine-nobody", true, 0, io.Discard); !errors.Is(err, ErrNotFound) {
		t.Fatalf("logs of nobody: %v; want ErrNotFound", err)
	}
}

// lines is a writer that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func logsFollow(t *testing.T, b bench) {
	s := b.spec(t)
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	var whole, cut lines
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := b.Logs(t.Context(), c.ID, true, 0, &whole); err != nil {
			t.Error(err)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- b.Logs(ctx, c.ID, true, 1, &cut) }()
	eventually(t, "the lines so far", func() bool {
		return strings.Contains(whole.String(), "line 1") && strings.Contains(cut.String(), "line 2")
	})
	if _, err := get(s.addr(), "/log?line=told"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the line that follows", func() bool {
		return strings.HasSuffix(whole.String(), "told\n") && strings.HasSuffix(cut.String(), "told\n")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("logs whose reader went: %v", err)
	}
	if strings.Contains(cut.String(), "line 1") {
		t.Fatalf("the last line was asked for, and came with %q", cut.String())
	}
	b.murder(t, c)
	wg.Wait() // the other ends with the container
}

func eventsOfALife(t *testing.T, b bench) {
	s := b.spec(t)
	ctx, cancel := context.WithCancel(t.Context())
	events := b.Events(ctx, map[string]string{"case": t.Name()})
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	if _, err := b.Inspect(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	await := func(kind string) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case e := <-events:
				if e.Kind != kind {
					continue // kill and stop come besides, as each engine does it
				}
				if e.ID != c.ID || e.Name != s.Name || !hasLabels(e.Labels, s.Labels) || time.Since(e.At) > time.Minute {
					t.Fatalf("event %+v of container %+v", e, c)
				}
				return
			case <-deadline:
				t.Fatalf("no event %s", kind)
			}
		}
	}
	await("start")
	b.pause(t, c)
	await("pause")
	b.murder(t, c)
	await("die")
	if err := b.Kill(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	await("destroy")
	cancel()
	eventually(t, "the end of the events", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})
}

func volume(t *testing.T, b bench) {
	dir, err := os.MkdirTemp("", "engine-volume")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Not t.TempDir(): its parent is closed to the spec's user.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := b.spec(t, "DATA=/data/sub")
	s.Mounts = []Mount{{Source: filepath.Join(dir, "volume"), Target: "/data/sub"}}
	if os.Geteuid() == 0 {
		s.User = "10001:10001"
	}
	b.run(t, s)
	answers(t, s.addr(), s.Name)
	if _, err := get(s.addr(), "/write"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "volume", "written")); err != nil || string(got) != "by "+s.Name {
		t.Fatalf("the volume holds %q, %v", got, err)
	}
}

func replaceOnOnePort(t *testing.T, b bench) {
	old := b.spec(t)
	was := b.run(t, old)
	answers(t, old.addr(), old.Name)
	for i, before := range []func(){
		func() {}, // it runs
		func() { b.pause(t, was) },
		func() { b.murder(t, was) },
		func() { b.kill(t, was.ID) }, // it is gone
	} {
		before()
		s := old
		s.Name = fmt.Sprintf("%s-%d", old.Name, i)
		s.Env = []string{"WHO=" + s.Name}
		t.Cleanup(func() { b.kill(t, s.Name) })
		now, err := b.Replace(t.Context(), was.ID, s)
		if err != nil {
			t.Fatalf("replace %d: %v", i, err)
		}
		answers(t, s.addr(), s.Name)
		b.absent(t, was.ID)
		was = now
	}
}

func replaceRefused(t *testing.T, b bench) {
	old := b.spec(t)
	was := b.run(t, old)
	s := old
	s.Name, s.Image = old.Name+"-next", "orch-engine-test:not-"+built.run
	if _, err := b.Replace(t.Context(), was.ID, s); !errors.Is(err, ErrNoImage) {
		t.Fatalf("replace by no image: %v; want ErrNoImage", err)
	}
	b.absent(t, s.Name)
	b.absent(t, was.ID) // it had to go, whatever follows
}
