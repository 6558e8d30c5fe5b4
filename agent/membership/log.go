package membership

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// repeatAfter is how often a warning that goes on is said again.
	repeatAfter = time.Minute
	// maxRepeats bounds the warnings that are remembered.
	maxRepeats = 256
)

// logWriter gives memberlist's log lines to slog. memberlist writes a level in
// brackets; what it calls an error it copes with, so nothing is above Warn. A
// warning is logged when it is new, and then once a minute.
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
	if len(w.seen) >= maxRepeats {
		clear(w.seen)
	}
	w.seen[key] = now
	return true
}
