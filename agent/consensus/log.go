package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// repeatAfter is how often a warning that goes on is said again. Raft warns
	// at each failed heartbeat, ten times a second for each lost peer.
	repeatAfter = time.Minute
	// maxRepeats bounds the warnings that are remembered.
	maxRepeats = 256
)

// hclogger gives Raft's log lines to slog. What Raft calls an error it copes
// with by itself, so nothing is above Warn; a warning is logged when it is new,
// and then once a minute.
type hclogger struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]*repeat
}

type repeat struct {
	at      time.Time
	dropped int
}

func newHCLogger(log *slog.Logger) *hclogger {
	return &hclogger{log: log, seen: map[string]*repeat{}}
}

// as returns a logger of the type that Raft wants.
func (h *hclogger) as(name string) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(h)
	return l
}

// Accept implements hclog.SinkAdapter.
func (h *hclogger) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Info:
		to = slog.LevelInfo
	case hclog.Warn, hclog.Error:
		to = slog.LevelWarn
	}
	if !h.log.Enabled(context.Background(), to) {
		return
	}
	attrs := []slog.Attr{slog.String("from", name)}
	key := msg
	for i := 0; i+1 < len(args); i += 2 {
		k, v := fmt.Sprint(args[i]), plain(args[i+1])
		if k == "peer" || k == "server-id" || k == "target" {
			key += " " + v
		}
		attrs = append(attrs, slog.String(k, v))
	}
	if to == slog.LevelWarn {
		dropped, ok := h.fresh(key, time.Now())
		if !ok {
			return
		}
		if dropped > 0 {
			attrs = append(attrs, slog.Int("repeated", dropped))
		}
	}
	h.log.LogAttrs(context.Background(), to, "raft: "+msg, attrs...)
}

func plain(v any) string {
	if f, ok := v.(hclog.Format); ok && len(f) > 0 {
		return fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
	}
	return fmt.Sprint(v)
}

// fresh reports whether a warning is to be logged, and how many of it were not
// since it last was.
func (h *hclogger) fresh(key string, now time.Time) (dropped int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.seen[key]
	if r == nil {
		if len(h.seen) >= maxRepeats {
			clear(h.seen)
		}
		h.seen[key] = &repeat{at: now}
		return 0, true
	}
	if now.Sub(r.at) < repeatAfter {
		r.dropped++
		return 0, false
	}
	dropped = r.dropped
	*r = repeat{at: now}
	return dropped, true
}
