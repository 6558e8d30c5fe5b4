package main

import (
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// tally counts answers by method and status, and how long they took.
type tally struct {
	mu      sync.Mutex
	answers map[string]int64
	bad     int64
	total   int64
	samples []string // of failures, the first few
	took    histogram
	late    int64 // visits not begun, for everybody was busy
}

const maxSamples = 5

func (t *tally) add(method string, status int, body string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers == nil {
		t.answers = map[string]int64{}
	}
	key := fmt.Sprintf("%s %d", method, status)
	if status == 0 {
		key = method + " no answer"
	}
	t.answers[key]++
	t.total++
	t.took.add(took)
	if status == 0 || status >= 400 {
		t.bad++
		if len(t.samples) < maxSamples {
			t.samples = append(t.samples, fmt.Sprintf("%s: %.160s", key, body))
		}
	}
}

func (t *tally) skip() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late++
}

func (t *tally) failed() int64 { t.mu.Lock(); defer t.mu.Unlock(); return t.bad }
func (t *tally) all() int64    { t.mu.Lock(); defer t.mu.Unlock(); return t.total }

func (t *tally) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(out, "%d requests, %d failed, p50 %s, p99 %s, longest %s\n", t.total, t.bad, t.took.quantile(0.50), t.took.quantile(0.99), t.took.longest.Round(time.Millisecond))
	for _, k := range slices.Sorted(maps.Keys(t.answers)) {
		fmt.Fprintf(out, "  %-16s %d\n", k, t.answers[k])
	}
	for _, s := range t.samples {
		fmt.Fprintf(out, "  failed: %s\n", s)
	}
	if t.late > 0 {
		fmt.Fprintf(out, "%d visits were left out, for everybody was busy: raise -people, or the service is too slow for this rate\n", t.late)
	}
}

// histogram keeps times in buckets an eighth of a power of two wide: 12% off at most.
type histogram struct {
	counts  [64 * 8]int64
	total   int64
	longest time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.longest = max(h.longest, d)
}

func bucket(d time.Duration) int {
	n := uint64(max(d, 8))
	top := bits.Len64(n) - 1
	return top*8 + int(n>>(top-3)&7)
}

// quantile is the upper edge of the bucket that holds the q-th part.
func (h *histogram) quantile(q float64) time.Duration {
	want := int64(q * float64(h.total))
	var seen int64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen > want {
			edge := time.Duration((8 + i%8 + 1)) << (i/8 - 3)
			return min(edge, h.longest).Round(10 * time.Microsecond)
		}
	}
	return h.longest
}
