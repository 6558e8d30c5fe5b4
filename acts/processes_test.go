package acts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// program builds the real one.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acts")
	cmd := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace", "-o", path, "../cmd/acts") // as the Makefile does, whose results Go has kept
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// process is the real program, running.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	url   string
	end   chan struct{} // closed when it has said its last
	ended bool
}

// start runs the program on a port of its own; when the test ends it gets SIGINT and
// must exit with 0.
func start(t testing.TB, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, append([]string{"--listen", "127.0.0.1:0"}, args...)...), end: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.ended {
			p.cmd.Process.Signal(os.Interrupt)
			p.wait()
		}
	})
	addr := make(chan string, 1)
	go func() {
		defer close(p.end)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var said struct{ Addr, Level, Msg, Reason string }
			json.Unmarshal(lines.Bytes(), &said) // a panic is none, and its status is seen
			if said.Addr != "" {
				addr <- said.Addr
			} else if said.Level != "INFO" {
				t.Logf("%s", lines.Bytes())
			}
		}
	}()
	select {
	case a := <-addr:
		p.url = "http://" + a
	case <-p.end:
		t.Fatalf("%v ended: %v", p.cmd.Args, p.cmd.Wait())
	}
	return p
}

// wait for it to end with 0.
func (p *process) wait() {
	p.t.Helper()
	<-p.end
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("after a signal: %v", err)
	}
}

// kill ends it in the middle of whatever it does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.end
	p.ended = true
	p.cmd.Wait()
}

// TestEightProcessesWriteAtOnce over one folder, started at once: nothing is lost,
// nothing is locked, and the count is that of all of them.
func TestEightProcessesWriteAtOnce(t *testing.T) {
	path := program(t)
	const processes, each = 8, 25
	dir := t.TempDir()
	urls := make([]string, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { urls[i] = start(t, path, nil, "--data", dir).url })
	}
	wg.Wait()
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	post := func(url, path, body string, want int) {
		resp, err := client.Post(url+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
	post(urls[0], "/api/v1/users", `{"username":"ann","password":"`+hash+`"}`, 201)
	post(urls[1], "/api/v1/categories", `["green"]`, 201)
	post(urls[2], "/api/v1/acts", anAct(0, nil), 201)
	for i := range processes {
		wg.Go(func() {
			for k := range each {
				post(urls[i], "/api/v1/acts", anAct(1+i*each+k, nil), 201)
				post(urls[(i+1)%processes], "/api/v1/acts/upvote", "[0]", 200)
			}
		})
	}
	wg.Wait()
	if _, body, _ := ask(t, urls[3], "GET", "/api/v1/acts/count", ""); body != fmt.Sprintf("[%d]", processes*each+1) {
		t.Errorf("acts: %s, want %d", body, processes*each+1)
	}
	if _, body, _ := ask(t, urls[5], "GET", "/api/v1/categories/green/acts?start="+fmt.Sprint(processes*each+1)+"&end="+fmt.Sprint(processes*each+1), ""); !strings.Contains(body, fmt.Sprintf(`"upvotes":%d`, processes*each)) {
		t.Errorf("upvotes: %s, want %d", body, processes*each)
	}
	if _, body, _ := ask(t, urls[6], "GET", "/api/v1/_count", ""); body != fmt.Sprintf("[%d]", 2*processes*each+5) {
		t.Errorf("requests: %s, want %d", body, 2*processes*each+5)
	}
	http.DefaultClient.CloseIdleConnections()
}
