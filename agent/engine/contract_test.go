package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
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
		{"ReplaceByItsName", replaceByItsName},
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
