package backup

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/fsm"
)

// Source is the node whose state is kept.
type Source interface {
	// Leads says whether this node is the one that keeps it now.
	Leads() bool
	// View returns all that was committed before it was asked, for which it waits: a
	// node that leads anew has not applied it yet.
	View(ctx context.Context) (*fsm.State, error)
}

// Config of a schedule.
type Config struct {
	To      string        // a place
	Every   time.Duration // between two files
	Keep    int           // files; older ones are removed
	Node    string        // this node and the version of its program
	Version string
	Logger  *slog.Logger
	// Registry takes the metric; nil for none.
	Registry prometheus.Registerer
}

// Schedule has the leader put a file into a place at an interval. Where another node
// leads it does nothing; what is due is read from the place, so that it survives
// every change of leader.
type Schedule struct {
	cfg    Config
	source Source

	mu     sync.Mutex
	last   time.Time // the newest file, zero while this node does not lead
	since  time.Time // of the first of the failures that go on
	reason string
}

// Limits of a schedule.
const (
	// putTimeout bounds one file on its way: 2 MiB over a bad link.
	putTimeout = time.Minute
	// retryAfter is the wait after a failure.
	retryAfter = 30 * time.Second
	// look is how often a node asks itself whether a file is due.
	look = time.Second
)

// NewSchedule starts nothing.
func NewSchedule(cfg Config, s Source) *Schedule {
	x := &Schedule{cfg: cfg, source: s}
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "orch", Name: "snapshot_file_timestamp_seconds", Help: "When the newest scheduled snapshot file was taken; 0 on nodes that do not lead.",
		}, func() float64 {
			x.mu.Lock()
			defer x.mu.Unlock()
			return float64(max(0, x.last.Unix()))
		}))
	}
	return x
}

// Run keeps the schedule until ctx ends.
func (x *Schedule) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var wait time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !x.source.Leads() {
			x.note(time.Time{}, nil)
			wait = time.Time{}
			continue
		}
		if time.Now().Before(wait) {
			continue
		}
		if err := x.turn(ctx); err != nil && ctx.Err() == nil {
			wait = time.Now().Add(retryAfter)
		}
	}
}

// turn puts one file if one is due.
func (x *Schedule) turn(ctx context.Context) error {
	x.mu.Lock()
	last := x.last
	x.mu.Unlock()
	if !last.IsZero() && !x.due(last) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	newest, err := x.put(ctx, last)
	x.note(newest, err)
	return err
}

// due says whether a file follows the one of a time. One that is dated in the future says
// nothing: this clock was ahead, or another's.
func (x *Schedule) due(last time.Time) bool {
	age := time.Since(last)
	return age >= x.cfg.Every || age < -maxAhead
}

func (x *Schedule) put(ctx context.Context, last time.Time) (_ time.Time, err error) {
	p, err := OpenPlace(ctx, x.cfg.To)
	if err != nil {
		return last, err
	}
	defer p.Close()
	v, err := x.source.View(ctx)
	if err != nil {
		return last, err
	}
	if last.IsZero() { // the first look of this leader
		if last, err = p.Newest(ctx, v.ClusterID, time.Now()); err != nil || !x.due(last) {
			return last, err
		}
	}
	var b bytes.Buffer
	m, err := Write(&b, v, x.cfg.Node, x.cfg.Version, time.Now())
	if err != nil {
		return last, err
	}
	if err := p.Put(ctx, m.Name(), b.Bytes()); err != nil {
		return last, err
	}
	x.cfg.Logger.Info("snapshot file written", "to", x.cfg.To, "name", m.Name(), "index", m.Index)
	return m.TakenAt, p.Prune(ctx, v.ClusterID, x.cfg.Keep, time.Now())
}

// note keeps what came of a turn; it logs the change, not each failure.
func (x *Schedule) note(last time.Time, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = last
	switch {
	case err == nil && x.reason != "":
		x.cfg.Logger.Info("snapshot files are written again", "to", x.cfg.To)
		x.reason, x.since = "", time.Time{}
	case err != nil && x.reason == "":
		x.since = time.Now()
		x.cfg.Logger.Error("snapshot file not written; tried again until it is", "to", x.cfg.To, "reason", err)
	}
	if err != nil {
		x.reason = err.Error()
	}
}

// Impaired says why and since when no file can be written, if so.
func (x *Schedule) Impaired() (reason string, since time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.reason, x.since
}

// Next says what this node will write and when, if it leads.
func (x *Schedule) Next() (what string, in time.Duration, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.last.IsZero() {
		return "", 0, false
	}
	return fmt.Sprintf("write a snapshot file to %s", x.cfg.To), max(0, time.Until(x.last.Add(x.cfg.Every))), true
}
