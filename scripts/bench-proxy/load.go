package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// load is what a peer is put under.
type load struct {
	name, about string
	conns       int
	readers     int // threads of wrk where one would be the limit; 0 is 1
	path        string
	args        []string // of wrk
	script      string   // of wrk, in Lua
	beside      string   // role of a process that holds other connections meanwhile
}

var allLoads = []load{
	{name: "small", about: "64 keep-alive connections, answers of 44 bytes", conns: 64, path: "/"},
	{name: "conns", about: "1,000 keep-alive connections, answers of 44 bytes", conns: 1000, path: "/"},
	{name: "newconn", about: "64 at a time, a new connection for each request", conns: 64, path: "/", args: []string{"-H", "Connection: close"}},
	{name: "64k", about: "64 connections, answers of 64 KiB", conns: 64, path: "/64k"},
	{name: "8m", about: "8 connections, answers of 8 MiB", conns: 8, readers: 2, path: "/8m"},
	{name: "upload", about: "16 connections, bodies of 1 MiB", conns: 16, path: "/upload",
		script: "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", 1048576)\n"},
	{name: "idle", about: "64 busy connections beside 10,000 idle ones", conns: 64, path: "/", beside: "parked"},
	{name: "slow", about: "64 busy connections beside 1,000 that send a byte of a head each half a second", conns: 64, path: "/", beside: "slow"},
}

func loadNames() (out []string) {
	for _, l := range allLoads {
		out = append(out, l.name)
	}
	return out
}

// result of one load on one peer.
type result struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       float64 // µs a request
	rss       float64 // MiB
	failed    int
}

// warmUp is the part of a load that is not measured.
const warmUp = 300 * time.Millisecond

// one puts a peer under a load.
func (b *bench) one(ctx context.Context, l load, p *process) (result, error) {
	before := 0.0
	if l.beside != "" {
		var err error
		if before, err = b.rss(p); err != nil {
			return result{}, err
		}
		parked, err := b.parked(ctx, l.beside, p)
		if err != nil {
			return result{}, err
		}
		defer parked.end()
	}
	if _, err := b.wrk(ctx, l, p, warmUp); err != nil {
		return result{}, err
	}
	busy, err := b.busy(p)
	if err != nil {
		return result{}, err
	}
	out, err := b.wrk(ctx, l, p, b.options.span)
	if err != nil {
		return result{}, err
	}
	after, err := b.busy(p)
	if err != nil {
		return result{}, err
	}
	r, requests, err := parse(out)
	if err != nil {
		return result{}, err
	}
	r.cpu = float64((after - busy).Microseconds()) / float64(requests)
	r.rss, err = b.rss(p)
	r.rss -= before
	return r, err
}

func (b *bench) wrk(ctx context.Context, l load, p *process, span time.Duration) (string, error) {
	args := []string{"-t" + strconv.Itoa(max(l.readers, 1)), "-c" + strconv.Itoa(l.conns), "-d" + strconv.Itoa(int(span.Milliseconds())) + "ms", "--latency", "--timeout", "10s"}
	if span.Milliseconds()%1000 == 0 || span >= time.Second {
		args[2] = "-d" + strconv.Itoa(int(span.Seconds())) + "s"
	} else {
		args[2] = "-d1s" // wrk counts in seconds
	}
	if l.script != "" {
		file := filepath.Join(b.dir, l.name+".lua")
		if err := os.WriteFile(file, []byte(l.script), 0o644); err != nil {
			return "", err
		}
		args = append(args, "-s", file)
	}
	args = append(append(args, l.args...), "http://"+p.addr+l.path)
	out, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("wrk %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

var (
	perSecondRE = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	requestsRE  = regexp.MustCompile(`(\d+) requests in`)
	quantileRE  = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+)(us|ms|s)$`)
	statusRE    = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	errorsRE    = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// parse reads what wrk prints.
func parse(out string) (r result, requests int, err error) {
	m, n := perSecondRE.FindStringSubmatch(out), requestsRE.FindStringSubmatch(out)
	if m == nil || n == nil {
		return r, 0, fmt.Errorf("wrk says: %s", out)
	}
	r.perSecond, err = strconv.ParseFloat(m[1], 64)
	if err != nil {
		return r, 0, err
	}
	if requests, err = strconv.Atoi(n[1]); err != nil || requests == 0 {
		return r, 0, fmt.Errorf("wrk says: %s", out)
	}
	for _, q := range quantileRE.FindAllStringSubmatch(out, -1) {
		d, err := time.ParseDuration(q[2] + q[3])
		if err != nil {
			return r, 0, err
		}
		if r.p50 = d; q[1] == "99" {
			r.p99 = d
		}
	}
	for _, q := range quantileRE.FindAllStringSubmatch(out, 1) {
		r.p50, err = time.ParseDuration(q[2] + q[3])
	}
	for _, x := range append(statusRE.FindAllStringSubmatch(out, -1), errorsRE.FindAllStringSubmatch(out, -1)...) {
		for _, s := range x[1:] {
			n, aerr := strconv.Atoi(s)
			r.failed += n
			err = errors.Join(err, aerr)
		}
	}
	return r, requests, err
}

// parked starts the process that holds connections beside those that are measured.
func (b *bench) parked(ctx context.Context, role string, p *process) (*process, error) {
	cmd := exec.Command(b.self, "-role="+role, "-addr="+p.addr)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	x := &process{role, p.addr, cmd}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("park connections: %q: %w", line, err), x.end())
	}
	return x, ctx.Err()
}

// family is a process and its children.
func family(p *process) ([]int, error) {
	pids := []int{p.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue // the thread has ended
			}
			for s := range strings.FieldsSeq(string(b)) {
				pid, err := strconv.Atoi(s)
				if err != nil {
					return nil, err
				}
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// busy is the processor time that a peer has used.
func (b *bench) busy(p *process) (time.Duration, error) {
	pids, err := family(p)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		_, after, _ := strings.Cut(string(raw), ") ")
		f := strings.Fields(after)
		if len(f) < 14 {
			return 0, fmt.Errorf("/proc/%d/stat: %q", pid, raw)
		}
		for _, s := range f[11:13] { // utime and stime, in ticks of 10 ms
			n, err := strconv.Atoi(s)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum, nil
}

// rss is what a peer holds of memory, in MiB.
func (b *bench) rss(p *process) (float64, error) {
	pids, err := family(p)
	if err != nil {
		return 0, err
	}
	pages := 0
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		f := strings.Fields(string(raw))
		if len(f) < 2 {
			return 0, fmt.Errorf("/proc/%d/statm: %q", pid, raw)
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return 0, err
		}
		pages += n
	}
	return float64(pages) * float64(syscall.Getpagesize()) / (1 << 20), nil
}
