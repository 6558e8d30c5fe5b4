package proxy

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// rowStats counts the answers of one row of a service over all its generations; those
// of number 0 were given by the proxy itself. Requests add to it without a lock.
type rowStats struct {
	codes [500]atomic.Uint64 // of status 100 to 599
	// times is a histogram: bucket i holds what took less than 128 µs << i.
	times [timeBuckets]atomic.Uint64
	nanos atomic.Uint64
}

const (
	timeBuckets = 17 // 128 µs to 4.2 s, and longer
	firstBucket = 17 // log2 of the first bound in ns
)

func (s *rowStats) answered(code int, d time.Duration) {
	if code < 100 || code > 599 {
		code = 599
	}
	s.codes[code-100].Add(1)
	ns := uint64(max(d, 0))
	s.nanos.Add(ns)
	s.times[min(max(bits.Len64(ns)-firstBucket, 0), timeBuckets-1)].Add(1)
}

type statsKey struct {
	service string
	number  int
}
