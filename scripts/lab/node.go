package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Node is one orchd process.
type Node struct {
	ID, IP, Dir, Socket string
	// Extra are further flags of orchd.
	Extra []string
	// Under is a command that orchd is run by, with its arguments; empty for none.
	Under []string

	cluster *Cluster
	cmd     *exec.Cmd
	done    chan struct{}
	exit    error
}

// Row is one line of `orchctl ps -o json`.
type Row struct {
	Service    string `json:"service"`
	Number     int    `json:"number"`
	Node       string `json:"node"`
	Addr       string `json:"addr"`
	Port       int    `json:"port"`
	Status     bool   `json:"status"`
	Turn       int    `json:"turn"`
	Generation uint64 `json:"generation"`
	Phase      string `json:"phase"`
	Image      string `json:"image"`
	Reason     string `json:"reason"`
}

// Status is what the lab reads of `orchctl status -o json`.
type Status struct {
	ClusterID string `json:"cluster_id"`
	Leader    string `json:"leader"`
	Term      uint64 `json:"term"`
	Quorum    bool   `json:"quorum"`
	TurnMode  string `json:"turn_mode"`
	Services  []struct {
		Name             string `json:"name"`
		Desired          int    `json:"desired"`
		Healthy          int    `json:"healthy"`
		Turn             uint64 `json:"turn"`
		RequestsInWindow uint64 `json:"requests_in_window"`
		ScaleReason      string `json:"scale_reason"`
	} `json:"services"`
}

// Event is one line of `orchctl events -o json`.
type Event struct {
	Index   uint64 `json:"index"`
	At      any    `json:"at"`
	Kind    string `json:"kind"`
	Service string `json:"service"`
	Number  int    `json:"number"`
	Node    string `json:"node"`
	Reason  string `json:"reason"`
}

// ProxyPort is the public port: 80 for root, else 8080.
func ProxyPort() string {
	if os.Getuid() == 0 {
		return "80"
	}
	return "8080"
}

// URL of a path on the node's public port.
func (n *Node) URL(path string) string { return "http://" + net.JoinHostPort(n.IP, ProxyPort()) + path }

func (n *Node) args() []string {
	args := []string{
		"--node-id=" + n.ID, "--addr=" + n.IP, "--data-dir=" + filepath.Join(n.Dir, "data"),
		"--volume-dir=" + filepath.Join(n.cluster.Dir, "volumes"), "--socket=" + n.Socket,
		"--proxy-addr=" + net.JoinHostPort(n.IP, ProxyPort()), "--metrics-addr=" + net.JoinHostPort(n.IP, "7483"),
		"--engine=" + n.cluster.Programs.Engine,
		"--process-image=" + n.cluster.Programs.Image + "=" + filepath.Join(n.cluster.Programs.Dir, "acts"),
	}
	return append(args, n.Extra...)
}

// Start runs orchd and waits until its API answers; if it ends instead, the
// error holds the end of its log.
func (n *Node) Start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(n.Dir, "data"), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	words := append(append(slices.Clone(n.Under), filepath.Join(n.cluster.Programs.Dir, "orchd")), n.args()...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// A test binary that is killed takes its nodes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel takes the end of the thread that starts it for that of the parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			n.exit = cmd.Wait()
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	n.cmd, n.done = cmd, done
	return Until(ctx, 10*time.Millisecond, func() error {
		if !n.Running() {
			return fmt.Errorf("%s %w: %v\n%s", n.ID, ErrEnded, n.exit, n.Log(20))
		}
		return n.get(ctx, "/-/healthy", nil)
	})
}

// Running says whether the process lives.
func (n *Node) Running() bool {
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Pid of the process.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Kill sends SIGKILL and waits.
func (n *Node) Kill() {
	if n.Running() {
		n.cmd.Process.Kill()
		<-n.done
	}
}

// Stop sends SIGTERM and returns how the process ended, or an error after limit.
func (n *Node) Stop(limit time.Duration) error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-n.done:
		return n.exit
	case <-time.After(limit):
		return fmt.Errorf("%s still runs %s after SIGTERM", n.ID, limit)
	}
}

// LogFile is where the node logs.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "orchd.log") }

// Log returns the last lines of the node's log.
func (n *Node) Log(lines int) string {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Ctl runs orchctl against this node and returns what it printed.
func (n *Node) Ctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(n.cluster.Programs.Dir, "orchctl"), append([]string{"--addr", n.Socket}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("orchctl %s on %s: %w: %s", strings.Join(args, " "), n.ID, err, out)
	}
	return string(out), nil
}

// Join has this node join the cluster of via, by the token that via shows, and returns
// what orchctl printed.
func (n *Node) Join(ctx context.Context, via *Node) (string, error) {
	token, err := via.Ctl(ctx, "token", "show", "-q")
	if err != nil {
		return "", err
	}
	return n.JoinBy(ctx, via, token)
}

// JoinBy is Join with a token of the caller's.
func (n *Node) JoinBy(ctx context.Context, via *Node, token string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(n.cluster.Programs.Dir, "orchctl"), "--addr", n.Socket, "join", via.IP+":7480")
	cmd.Stdin = strings.NewReader(token)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s joins %s: %w: %s", n.ID, via.ID, err, out)
	}
	return string(out), err
}

// get asks the node's API over its socket, without the cost of a process.
func (n *Node) get(ctx context.Context, path string, into any) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket)
	}
	tr := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://orchd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s", n.ID, path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// PS returns the container table as this node knows it.
func (n *Node) PS(ctx context.Context) (rows []Row, err error) {
	return rows, n.get(ctx, "/v1/ps", &rows)
}

// Status returns the state of the cluster as this node knows it.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	return s, n.get(ctx, "/v1/status", &s)
}

// Events returns the ring of events through orchctl.
func (n *Node) Events(ctx context.Context) ([]Event, error) {
	out, err := n.Ctl(ctx, "events", "-o", "json")
	if err != nil {
		return nil, err
	}
	var events []Event
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var e Event
		if err := d.Decode(&e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// Healthy waits until exactly want rows are healthy and no others are there.
func (n *Node) Healthy(ctx context.Context, want int) ([]Row, error) {
	var rows []Row
	return rows, Until(ctx, 20*time.Millisecond, func() (err error) {
		if rows, err = n.PS(ctx); err != nil {
			return err
		}
		healthy := 0
		for _, r := range rows {
			if r.Status && r.Phase == "running" {
				healthy++
			}
		}
		if healthy != want || len(rows) != want {
			return fmt.Errorf("%d of %d rows are healthy, want %d of %d: %+v", healthy, len(rows), want, want, rows)
		}
		return nil
	})
}
