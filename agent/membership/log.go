package membership

import (
	"context"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// repeatAfter is how often a warning that goes on is said again.
	repeatAfter = time.Minute
	// maxKinds is how many different warnings are said within that time. A stranger can
	// make any number of them, by what he sends in a packet: the rest is for --log-level debug.
	maxKinds = 32
)

// logWriter gives memberlist's log lines to slog. memberlist writes a level in
// brackets; what it calls an error it copes with, so nothing is above Warn. A
// warning is logged when it is new, and then once a minute; so many different ones at most.
type logWriter struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]time.Time
}

func newLogWriter(log *slog.Logger) *logWriter {
	return &logWriter{log: log, seen: map[string]time.Time{}}
}

// changing is what differs between two lines about the same thing.
var changing = regexp.MustCompile(`\d+`)

func (w *logWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level, rest := slog.LevelDebug, line
	if tag, after, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		rest = after
		switch tag {
		case "[WARN", "[ERR", "[ERROR":
			level = slog.LevelWarn
		case "[INFO":
			level = slog.LevelInfo
		}
	}
	if level == slog.LevelWarn && !w.fresh(changing.ReplaceAllString(rest, "#"), time.Now()) {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, "gossip: "+strings.TrimPrefix(rest, "memberlist: "))
	return len(p), nil
}

func (w *logWriter) fresh(key string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.seen[key]; ok && now.Sub(at) < repeatAfter {
		return false
	}
	if len(w.seen) >= maxKinds {
		maps.DeleteFunc(w.seen, func(_ string, at time.Time) bool { return now.Sub(at) >= repeatAfter })
	}
	if len(w.seen) >= maxKinds {
		return false
	}
	w.seen[key] = now
	return true
}
