package engine

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const processImage = "served:latest"

func openProcess(t *testing.T, dir string) *Process {
	t.Helper()
	p, err := OpenProcess(ProcessConfig{Binaries: map[string]string{processImage: built.binary}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func processBench(t *testing.T) bench {
	p := openProcess(t, t.TempDir())
	t.Cleanup(func() {
		if left, err := os.ReadDir(p.cfg.Dir); err != nil || len(left) != 0 {
			t.Errorf("left in the state folder: %v, %v", left, err)
		}
	})
	return bench{
		contract: p, image: processImage,
		pause:  func(t *testing.T, c Container) { signal(t, p, c, syscall.SIGSTOP) },
		murder: func(t *testing.T, c Container) { signal(t, p, c, syscall.SIGKILL) },
		leave: func(t *testing.T, s Spec) {
			if _, err := p.claim(s); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func signal(t *testing.T, p *Process, c Container, sig syscall.Signal) {
	t.Helper()
	child, err := p.find(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// A daemon that comes back finds what runs, what has ended, and what it had
// started without having written it down.
func TestProcessOutlivesDaemon(t *testing.T) {
	dir := t.TempDir()
	p := openProcess(t, dir)
	b := bench{contract: p, image: processImage}
	runs, unsure, ends := b.spec(t), b.spec(t), b.spec(t)
	unsure.Name, ends.Name = unsure.Name+"-unsure", ends.Name+"-ends"
	kept, unsureWas, ended := b.run(t, runs), b.run(t, unsure), b.run(t, ends)
	answers(t, runs.addr(), runs.Name)
	endedPid := p.list[ended.ID].Process
	p.mu.Lock()
	before := *p.list[unsureWas.ID]
	p.mu.Unlock()
	before.State, before.Process = stateCreated, process{}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := before.save(dir); err != nil {
		t.Fatal(err)
	}
	endedPid.killGroup()
	eventually(t, "the end of the process", func() bool { alive, _ := endedPid.look(); return !alive })

	q := openProcess(t, dir)
	b = bench{contract: q, image: processImage}
	t.Cleanup(func() {
		for _, s := range []Spec{runs, unsure, ends} {
			if err := q.Kill(context.WithoutCancel(t.Context()), s.Name); err != nil {
				t.Error(err)
			}
		}
	})
	events := q.Events(t.Context(), map[string]string{"case": t.Name()})
	if again := b.run(t, runs); again.ID != kept.ID || again.Addr != kept.Addr {
		t.Fatalf("run after a restart gave %+v; before it was %+v", again, kept)
	}
	if again := b.run(t, unsure); again.ID != unsureWas.ID {
		t.Fatalf("a process that was not written down was not found: %+v", again)
	}
	if c, err := q.Inspect(t.Context(), ended.ID); err != nil || c.State != "exited" || c.ExitCode != -1 || c.Reason == "" {
		t.Fatalf("what ended meanwhile is %+v, %v", c, err)
	}
	// The end of an adopted process is noticed without being asked for.
	signal(t, q, kept, syscall.SIGKILL)
	select {
	case e := <-events:
		if e.Kind != "die" || e.ID != kept.ID {
			t.Fatalf("event %+v", e)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no event of an adopted container's end")
	}
	// A third daemon knows of that end from the file.
	q.Close()
	q = openProcess(t, dir)
	var out lines
	if err := q.Logs(t.Context(), kept.ID, true, 0, &out); err != nil || !strings.Contains(out.String(), "listening") {
		t.Fatalf("logs of what ended under an earlier daemon: %q, %v", out.String(), err)
	}
	begun := time.Now()
	if err := q.Stop(t.Context(), unsureWas.ID, 30*time.Second); err != nil || time.Since(begun) > 20*time.Second {
		t.Fatalf("stop of an adopted container: %v, after %s", err, time.Since(begun))
	}
}

// A number that another process has by now is not the container.
func TestProcessNumberReused(t *testing.T) {
	mine, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if alive, paused := mine.look(); !alive || paused {
		t.Fatalf("this process: alive %v, paused %v", alive, paused)
	}
	for what, other := range map[string]process{
		"an earlier start": {Pid: mine.Pid, Start: mine.Start - 1, Boot: mine.Boot},
		"an earlier boot":  {Pid: mine.Pid, Start: mine.Start, Boot: "another"},
	} {
		if alive, _ := other.look(); alive {
			t.Errorf("%s is alive", what)
		}
		other.signal(syscall.SIGKILL) // would end this test
	}
}

func TestProcessRefusesDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/abc.json", []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := OpenProcess(ProcessConfig{Dir: dir})
	if err == nil {
		p.Close()
		t.Fatal("opened a folder with a damaged record")
	}
	if !strings.Contains(err.Error(), dir+"/abc.json") {
		t.Fatalf("the error does not name the file: %v", err)
	}
}

// The logs of a container that floods stay within size × files, and its followers
// see the newest lines.
func TestProcessLogIsLimited(t *testing.T) {
	dir := t.TempDir()
	p := openProcess(t, dir)
	b := bench{contract: p, image: processImage}
	s := b.spec(t)
	s.LogMaxSize, s.LogMaxFiles = "50k", 3
	c := b.run(t, s)
	answers(t, s.addr(), s.Name)
	for range 4 {
		if _, err := get(s.addr(), "/flood?lines=1000"); err != nil { // 100 kB
			t.Fatal(err)
		}
		eventually(t, "a cut log", func() bool {
			info, err := os.Stat(dir + "/" + c.ID + ".log")
			return err == nil && info.Size() <= 50<<10
		})
	}
	var sum int64
	for _, f := range logFiles(dir+"/"+c.ID+".log", 3) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum > 3*50<<10 {
		t.Fatalf("the logs hold %d bytes", sum)
	}
	if _, err := get(s.addr(), "/log?line=newest"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the newest line", func() bool {
		var out lines
		if err := p.Logs(t.Context(), c.ID, false, 2, &out); err != nil {
			t.Fatal(err)
		}
		return strings.HasSuffix(out.String(), "x\nnewest\n") && strings.Count(out.String(), "\n") == 2
	})
}

func TestProcessEnvironment(t *testing.T) {
	t.Setenv("A_SECRET_OF_THE_DAEMON", "1")
	p, err := OpenProcess(ProcessConfig{
		Binaries: map[string]string{processImage: built.binary}, Dir: t.TempDir(), KeepUser: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	b := bench{contract: p, image: processImage}
	dir := t.TempDir()
	s := b.spec(t, "A=/data", "B=/data/x/y", "C=/database", "ACTS_LISTEN=:1")
	s.Mounts, s.User = []Mount{{Source: dir, Target: "/data"}}, "10001"
	b.run(t, s)
	answers(t, s.addr(), s.Name)
	env, err := get(s.addr(), "/env")
	if err != nil {
		t.Fatal(err)
	}
	have := "\n" + env + "\n"
	for _, want := range []string{"A=" + dir, "B=" + dir + "/x/y", "C=/database", "ACTS_LISTEN=" + s.addr(), "LISTEN=" + s.addr()} {
		if !strings.Contains(have, "\n"+want+"\n") {
			t.Errorf("no %s in the environment:%s", want, have)
		}
	}
	if strings.Contains(env, "SECRET") {
		t.Error("the daemon's environment reached the container")
	}
}

// A folder that the spec's user can not reach is said so before anything starts.
func TestProcessVolumeOutOfReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root hands containers to other users; checking the rule alone")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mayEnter(dir, 10001, 10001); err == nil || !strings.Contains(err.Error(), "chmod o+x") {
		t.Fatalf("a closed folder: %v", err)
	}
	if err := mayEnter("/tmp", 10001, 10001); err != nil {
		t.Fatalf("an open folder: %v", err)
	}
}

// A reader that is too slow is told that it has lost some.
func TestProcessSlowReaderIsTold(t *testing.T) {
	var p Process
	events := p.Events(t.Context(), nil)
	for range 2*eventBuffer + 2 {
		p.hub.tell(Event{Kind: "die"})
	}
	for deadline := time.After(5 * time.Second); ; {
		select {
		case e := <-events:
			if e.Kind == Resync {
				return
			}
		case <-deadline:
			t.Fatal("events were lost without a word")
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 1, ""}, {"a", 1, "a"}, {"a\n", 1, "a\n"}, {"a\nb\n", 1, "b\n"}, {"a\nb", 1, "b"}, {"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\n", 5, "a\nb\n"}, {"\n\n", 1, "\n"}, {"a\nb\n", 0, "a\nb\n"},
	} {
		if got := string(lastLines([]byte(c.in), c.n)); got != c.want {
			t.Errorf("last %d lines of %q: %q, want %q", c.n, c.in, got, c.want)
		}
	}
}
