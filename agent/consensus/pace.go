package consensus

import (
	"slices"
	"sync"
	"time"
)

const (
	// paceSamples is how many of the newest appends are remembered: twice what
	// the 99.9th percentile needs.
	paceSamples = 2048
	// paceFactor is how many of the slowest usual writes must fit into a
	// heartbeat time-out: heartbeats wait behind writes, and several may queue.
	paceFactor = 5
	// The disk is tried at the start with up to so many writes or so much time.
	paceProbes     = 64
	paceProbeLimit = 500 * time.Millisecond
)

// pace remembers how long appends to the log took.
type pace struct {
	mu      sync.Mutex
	samples [paceSamples]time.Duration
	n       int
}

func (p *pace) observe(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples[p.n%paceSamples] = d
	p.n++
}

// p999 is the 99.9th percentile; below 1,000 samples that is the longest.
func (p *pace) p999() time.Duration {
	p.mu.Lock()
	s := slices.Clone(p.samples[:min(p.n, paceSamples)])
	p.mu.Unlock()
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	return s[len(s)-1-len(s)/1000]
}

// probe times small writes to d, each with its fsync. A disk that refuses them
// is left to the fence, which meets it at the first write that matters.
func (p *pace) probe(d disk) {
	end := time.Now().Add(paceProbeLimit)
	for i := range uint64(paceProbes) {
		start := time.Now()
		if start.After(end) || d.SetUint64([]byte("OrchDiskProbe"), i) != nil {
			return
		}
		p.observe(time.Since(start))
	}
}
