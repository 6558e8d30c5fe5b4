package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// smuggled is what a client hides in what may be taken for a body: no backend may ever
// see it as a request.
const smuggled = "GET /hidden HTTP/1.1\r\nHost: h\r\nX: "

// ambiguous are requests of which two readers may find different ends. Each is refused,
// and nothing behind it is read.
var ambiguous = []string{
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 43\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 43\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n Content-Length: 43\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 43\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nConnection: content-length\r\nContent-Length: 43\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nConnection: host\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\r\nhello\r\n0x0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n\r\n" + smuggled,
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x=\x01\r\na\r\n0\r\n\r\n" + smuggled,
	"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n" + smuggled,
	"GET / HTTP/1.1\r\n\r\n" + smuggled,
	"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n" + smuggled,
	"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 43, 43\r\n\r\n" + smuggled,
	"GET /\r\n" + smuggled,
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled,
	"GET / HTTP/1.1 \r\nHost: h\r\n\r\n" + smuggled,
	"GET  / HTTP/1.1\r\nHost: h\r\n\r\n" + smuggled,
	"GET / HTTP/3.1\r\nHost: h\r\n\r\n" + smuggled,
}

// seenPaths is a backend that remembers what it was asked for.
type seenPaths struct {
	mu    sync.Mutex
	paths []string
}

func (s *seenPaths) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, r.URL.Path)
}

// attack sends each ambiguous request on a connection of its own, an honest one before
// and, elsewhere, after it. Every client must be answered.
func attack(t *testing.T, p *lab, answersEarly bool) {
	t.Helper()
	for i, s := range ambiguous {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET /honest HTTP/1.1\r\nHost: h\r\n\r\n"+s)
		got, err := io.ReadAll(c)
		c.Close()
		answers := statusLine.FindAllStringSubmatch(string(got), -1)
		// nginx answers before it has read a body whose head was in order; the connection
		// then ends with that answer.
		early := answersEarly && strings.HasPrefix(s, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		if err != nil || len(answers) != 2 || answers[0][1] != "200" || answers[1][1] < "400" && !(early && answers[1][1] == "200") {
			t.Errorf("%d: %.90q: answers %v, %v: %.300q", i, s, answers, err, got)
		}
		resp, err := browser.Get(p.url + "/after")
		if err != nil {
			t.Fatalf("%d: an honest client goes unanswered: %v", i, err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%d: an honest client got %s", i, resp.Status)
		}
	}
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 (\d{3}) `)

func onlyHonest(t *testing.T, paths []string) {
	t.Helper()
	honest := 0
	for _, p := range paths {
		switch p {
		case "/honest", "/after":
			honest++
		case "/": // an ambiguous one may have begun before its body showed what it is
		default:
			t.Errorf("the backend saw %q", p)
		}
	}
	if honest != 2*len(ambiguous) {
		t.Errorf("the backend saw %d honest requests of %d", honest, 2*len(ambiguous))
	}
}

func TestSmugglingPastNetHTTP(t *testing.T) {
	s := &seenPaths{}
	attack(t, start(t, "n1", &counter{}, acts(1, backend(t, 1, s.ServeHTTP))), false)
	s.mu.Lock()
	defer s.mu.Unlock()
	onlyHonest(t, s.paths)
}

// TestSmugglingPastNginx: a server of another make reads what goes on.
func TestSmugglingPastNginx(t *testing.T) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no nginx is installed (apt-get install nginx-light)")
		}
		t.Skip("no nginx is installed (apt-get install nginx-light)")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
	log_format path '$uri'; access_log %[1]s/access.log path;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server { listen %[2]s; location / { return 200 "ok"; } }
}`, dir, addr)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cmd.Process.Signal(syscall.SIGQUIT)
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Fatalf("nginx does not listen: %v\n%s", err, log)
		}
	}
	attack(t, start(t, "n1", &counter{}, acts(1, Row{Number: 1, Generation: 1, Node: "n1", Addr: addr, Direct: true})), true)
	browser.CloseIdleConnections()
	stop()
	log, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	onlyHonest(t, strings.Fields(string(log)))
}
