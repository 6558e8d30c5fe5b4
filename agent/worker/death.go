package worker

import (
	"strconv"
	"time"
)

// deathWindow is how long the word of an event stands against a listing. Docker
// tells of a death first, then frees network and mounts (0.1 to 0.3 s), and only
// then do its listings show it.
const deathWindow = time.Second

// death is what events said of a container's end.
type death struct {
	at   time.Time // zero: it has not died
	code int       // -1: unknown
	oom  bool
}

// hear takes from an event what a listing does not show yet. Events only make
// things known sooner: one that is lost, or old, changes nothing.
func (w *Worker) hear(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.deaths[e.ID]
	switch e.Kind {
	case "oom":
		d.oom = true
	case "die":
		code, err := strconv.Atoi(e.Labels["exitCode"])
		if err != nil {
			code = -1
		}
		d.at, d.code = e.At, code
	case "start":
		delete(w.deaths, e.ID)
		return
	default:
		return
	}
	w.deaths[e.ID] = d
}

// dying marks the containers of a listing that have died since. What a listing
// may still miss is kept for the window, the rest is forgotten.
func (w *Worker) dying(list []Container, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := map[string]death{}
	for id, d := range w.deaths {
		if !d.at.IsZero() && now.Sub(d.at) < deathWindow {
			kept[id] = d
		}
	}
	for i := range list {
		c := &list[i]
		d, heard := w.deaths[c.ID]
		if !heard || !c.alive() {
			continue
		}
		if d.at.IsZero() {
			kept[c.ID] = d // out of memory, and alive so far
			continue
		}
		if _, died := kept[c.ID]; !died {
			continue
		}
		c.State, c.ExitCode = stateDying, d.code
		if d.oom {
			c.Reason = "out of memory"
		}
	}
	w.deaths = kept
}
