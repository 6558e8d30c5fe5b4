package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// report prints the medians of a load, and what they are of HAProxy's.
func report(out io.Writer, l load, peers []*process, results map[string][]result) {
	memory := "RSS MiB"
	if l.beside != "" {
		memory = "RSS more"
	}
	fmt.Fprintf(out, "\n%s: %s, medians of %d\n", l.name, l.about, len(results[peers[0].name]))
	fmt.Fprintf(out, "  %-8s %9s %6s  %9s %9s %6s  %8s %6s  %8s %7s\n", "", "req/s", "ratio", "p50", "p99", "ratio", "CPU µs", "ratio", memory, "failed")
	base, compare := results["haproxy"]
	for _, p := range peers {
		rs := results[p.name]
		rate, tail, cpu := ratio(base, rs, result.rate, compare), ratio(base, rs, result.tail, compare), ratio(base, rs, result.work, compare)
		failed := 0
		for _, r := range rs {
			failed += r.failed
		}
		fmt.Fprintf(out, "  %-8s %9.0f %6s  %9v %9v %6s  %8.1f %6s  %8.1f %7d\n", p.name,
			median(rs, result.rate), rate, time.Duration(median(rs, result.middle)).Round(time.Microsecond), time.Duration(median(rs, result.tail)).Round(time.Microsecond), tail,
			median(rs, result.work), cpu, median(rs, result.memory), failed)
	}
}

func (r result) rate() float64   { return r.perSecond }
func (r result) middle() float64 { return float64(r.p50) }
func (r result) tail() float64   { return float64(r.p99) }
func (r result) work() float64   { return r.cpu }
func (r result) memory() float64 { return r.rss }

// ratio is the median of the ratios of each round: what else the machine did in a round
// falls on both.
func ratio(base, rs []result, of func(result) float64, compare bool) string {
	if !compare {
		return ""
	}
	var all []float64
	for i, r := range rs {
		all = append(all, of(r)/max(of(base[i]), 1e-9))
	}
	return fmt.Sprintf("%.2f", middle(all))
}

func median(rs []result, of func(result) float64) float64 {
	var all []float64
	for _, r := range rs {
		all = append(all, of(r))
	}
	return middle(all)
}

func middle(x []float64) float64 {
	slices.SortFunc(x, cmp.Compare[float64])
	if n := len(x); n%2 == 0 {
		return (x[n/2-1] + x[n/2]) / 2
	}
	return x[len(x)/2]
}
