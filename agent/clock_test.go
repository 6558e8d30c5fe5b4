package agent

import (
	"testing"
	"time"
)

func TestClockFollowsTheLogNotTheMachine(t *testing.T) {
	start := time.Now()
	wall := start.UnixMilli()
	c := newClock(start)

	c.observe(wall-3_600_000, false, start) // replay of an hour ago
	if got := c.at(start); got != wall {
		t.Errorf("after a replay: stamp %d, want the machine's %d", got, wall)
	}
	// A leader whose clock is an hour behind keeps the time of the cluster.
	c.observe(wall-3_600_000, true, start)
	if got, want := c.at(start.Add(1500*time.Millisecond)), wall-3_600_000+1500; got != want {
		t.Errorf("after a live entry: stamp %d, want %d", got, want)
	}
	// A replayed entry can not turn a live clock back.
	c.observe(wall+5, true, start)
	c.observe(wall-9, false, start)
	if got := c.at(start); got != wall-9 {
		t.Errorf("stamp %d after the last entry, want %d", got, wall-9)
	}
}

func TestClockOfAClusterThatWasAheadGoesOn(t *testing.T) {
	start := time.Now()
	c := newClock(start)
	ahead := start.UnixMilli() + 60_000
	c.observe(ahead, false, start)
	if got := c.at(start); got != ahead {
		t.Errorf("stamp %d, want %d: time must not go back", got, ahead)
	}
}
