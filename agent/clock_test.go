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
	// Entries arrive as late as their commit took: the clock does not go back by that.
	stamp := c.at(start)
	now := start
	for range 1000 {
		now = now.Add(20 * time.Millisecond)
		c.observe(c.at(now.Add(-5*time.Millisecond)), true, now)
	}
	if got, want := c.at(now), stamp+20_000; got != want {
		t.Errorf("after 1,000 late entries the clock is at %d, want %d", got, want)
	}
	// A leader that is ahead takes it along.
	c.observe(stamp+60_000, true, now)
	if got := c.at(now); got != stamp+60_000 {
		t.Errorf("stamp %d, want the leader's %d", got, stamp+60_000)
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
