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

// launch runs the real program over dir and returns its URL.
func launch(t *testing.T, program, dir string) string {
	t.Helper()
	cmd := exec.Command(program, "--listen", "127.0.0.1:0", "--data", dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("after a signal: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	var said struct{ Addr string }
	if err != nil || json.Unmarshal([]byte(line), &said) != nil || said.Addr == "" {
		t.Fatalf("it says %q, %v", line, err)
	}
	return "http://" + said.Addr
}

// TestEightProcessesWriteAtOnce over one folder, started at once: nothing is lost,
// nothing is locked, and the count is that of all of them.
func TestEightProcessesWriteAtOnce(t *testing.T) {
	program := filepath.Join(t.TempDir(), "acts")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/acts").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const processes, each = 8, 25
	dir := t.TempDir()
	urls := make([]string, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { urls[i] = launch(t, program, dir) })
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
