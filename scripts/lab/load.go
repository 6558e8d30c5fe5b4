package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load sends GETs through nodes and counts what comes back.
type Load struct {
	OK     atomic.Int64
	Local  atomic.Int64 // of them by a turn that was not the cluster's
	mu     sync.Mutex
	failed []Failure
	shares map[string]int
}

// Failure is one request that was not answered 200.
type Failure struct {
	At   time.Time
	Node string
	What string
}

// Workers is how many requests a node has in flight, MaxRequests where the load
// ends by itself.
const (
	Workers     = 4
	MaxRequests = 2_000_000
)

// Run sends GETs for path through node until ctx ends, a few at a time, with
// pause between the requests of one worker.
func (l *Load) Run(ctx context.Context, n *Node, path string, pause time.Duration) {
	var wg sync.WaitGroup
	for range Workers {
		wg.Go(func() {
			for ctx.Err() == nil && l.OK.Load() < MaxRequests {
				if what := l.one(ctx, n, path); what != "" && ctx.Err() == nil {
					l.mu.Lock()
					l.failed = append(l.failed, Failure{At: time.Now(), Node: n.ID, What: what})
					l.mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	wg.Wait()
}

func (l *Load) one(ctx context.Context, n *Node, path string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL(path), nil)
	if err != nil {
		return err.Error()
	}
	resp, err := n.cluster.HTTP.Do(req)
	if err != nil {
		return err.Error()
	}
	drain(resp.Body)
	if resp.StatusCode >= 300 {
		return fmt.Sprintf("%s from %s", resp.Status, resp.Header.Get("X-Orch-Container"))
	}
	l.OK.Add(1)
	if strings.HasSuffix(resp.Header.Get("X-Orch-Turn"), " local") {
		l.Local.Add(1)
	}
	l.mu.Lock()
	if l.shares == nil {
		l.shares = map[string]int{}
	}
	l.shares[resp.Header.Get("X-Orch-Container")]++
	l.mu.Unlock()
	return ""
}

// Failures returns what failed so far.
func (l *Load) Failures() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Failure(nil), l.failed...)
}

// Shares returns how many answers each container gave (by X-Orch-Container).
func (l *Load) Shares() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int, len(l.shares))
	for k, v := range l.shares {
		out[k] = v
	}
	return out
}

// Burst sends exactly total GETs for path, spread evenly over the nodes, workers
// at a time through each, and waits for all answers.
func (l *Load) Burst(ctx context.Context, nodes []*Node, path string, total int) {
	var wg sync.WaitGroup
	for i, n := range nodes {
		left := &atomic.Int64{}
		left.Store(int64(total/len(nodes) + min(1, max(0, total%len(nodes)-i))))
		for range Workers {
			wg.Go(func() {
				for left.Add(-1) >= 0 && ctx.Err() == nil {
					if what := l.one(ctx, n, path); what != "" {
						l.mu.Lock()
						l.failed = append(l.failed, Failure{At: time.Now(), Node: n.ID, What: what})
						l.mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
}
