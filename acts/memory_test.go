package acts

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxPeak is the most memory that a process may ever have had, in KiB.
const maxPeak = 300 << 10

var peakRE = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

func (p *process) peak() int {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := peakRE.FindSubmatch(b)
	if err != nil || m == nil {
		p.t.Fatal(err)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// TestMemoryIsBounded in a process with the limit that a container of 256 MiB gives it:
// a thousand uploads of 10 MiB are under way in step, twelve of which come whole, and
// those twelve are listed. The rest stops at 256 KiB: a thousand on disk are 14 GB.
func TestMemoryIsBounded(t *testing.T) {
	const connections, whole, before = 1000, 12, 256 << 10
	p := start(t, program(t), []string{fmt.Sprintf("GOMEMLIMIT=%d", 256<<20*6/10)}, "--data", t.TempDir())
	settled(t, p.url)
	body := noisyAct(0, maxPhoto)
	conns := make([]net.Conn, connections)
	for i := range conns {
		c := dialed(t, p.url)
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		fmt.Fprint(c, head(len(body)))
		conns[i] = c
	}
	const step = 64 << 10
	for sent := 0; sent < before; sent += step {
		for _, c := range conns {
			if _, err := io.WriteString(c, body[sent:sent+step]); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("a thousand under way: %d MiB", p.peak()>>10)
	var wg sync.WaitGroup
	for i, c := range conns[:whole] {
		wg.Go(func() { // all have one number: one of them wins
			io.WriteString(c, body[before:])
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("upload %d: %v", i, err)
				return
			}
			defer resp.Body.Close()
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 201 && resp.StatusCode != 503 && !strings.Contains(string(b), "exists already") {
				t.Errorf("upload %d: %s %s", i, resp.Status, b)
			}
		})
	}
	wg.Wait()
	for _, c := range conns {
		c.Close()
	}
	for id := 1; id < whole; id++ {
		if status, answer, _ := ask(t, p.url, "POST", "/api/v1/acts", noisyAct(id, maxPhoto)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	t.Logf("after the uploads: %d MiB", p.peak()>>10)
	resp, err := http.Get(p.url + "/api/v1/categories/green/acts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < whole*maxPhoto*4/3 {
		t.Errorf("listed %d bytes, %v", n, err)
	}
	t.Logf("after the list: %d MiB", p.peak()>>10)
	if n := p.peak(); n > maxPeak {
		t.Errorf("at its peak it had %d KiB, more than %d", n, maxPeak)
	}
	http.DefaultClient.CloseIdleConnections()
}
