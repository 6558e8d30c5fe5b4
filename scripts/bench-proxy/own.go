package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"orch/proxy"
)

// ours is a turn counter that takes as long as a commit on three nodes.
type ours struct{ turn atomic.Uint64 }

// commit is one Apply on three voters with fsync.
const commit = 1100 * time.Microsecond

// Take implements proxy.Turns.
func (o *ours) Take(ctx context.Context, r proxy.TakeRequest) (uint64, error) {
	select {
	case <-time.After(commit):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return o.turn.Add(uint64(r.Count)) - uint64(r.Count), nil
}

// Suspect implements proxy.Suspects.
func (o *ours) Suspect(string, int, uint64, string) {}

// serve is a node's proxy alone, in front of the backends that -addr names after its own
// address.
func serve(ctx context.Context, o options) error {
	procs, err := strconv.Atoi(o.procs)
	if err != nil || procs < 0 {
		return fmt.Errorf("-procs %q: choose a number", o.procs)
	}
	if procs == 0 {
		procs = proxy.Procs(runtime.NumCPU())
	}
	runtime.GOMAXPROCS(procs)
	if o.profile != "" {
		name := "own.pprof"
		if o.nethttp {
			name = "nethttp.pprof"
		}
		f, err := os.Create(filepath.Join(o.profile, name))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	addrs := strings.Split(o.addr, ",")
	l, err := proxy.Listen(ctx, addrs[0])
	if err != nil {
		return err
	}
	s := proxy.Service{Name: "bench", Routes: []string{"/"}, Mode: string(proxy.Leased), Timeout: 30 * time.Second, MaxBody: 16 << 20}
	for i, a := range addrs[1:] {
		s.Rows = append(s.Rows, proxy.Row{Number: i + 1, Generation: 1, Node: "n1", Addr: a, Direct: true})
	}
	c := &ours{}
	p := proxy.New(proxy.Config{Node: "n1", NetHTTP: o.nethttp}, c, c)
	p.SetTable(proxy.Table{Index: 1, Services: []proxy.Service{s}})
	return p.Run(ctx, l)
}
