package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// pace yields the times of visits: a Poisson process whose rate is multiplied while
// a burst lasts. Bursts begin and end at random times with the configured means.
type pace struct {
	c        Config
	rand     *rand.Rand
	at       time.Duration // of the last visit
	bursting bool
	until    time.Duration // the present state lasts
}

func newPace(c Config) *pace {
	p := &pace{c: c, rand: rand.New(rand.NewPCG(c.Seed, 1))}
	p.until = p.exp(c.Every)
	return p
}

func (p *pace) exp(mean time.Duration) time.Duration {
	return time.Duration(p.rand.ExpFloat64() * float64(mean))
}

// next is the time of the next visit since the start. Because exponential times
// have no memory, one that crosses into another state is drawn anew from there.
func (p *pace) next() time.Duration {
	for {
		rate := p.c.Rate
		if p.bursting {
			rate *= p.c.Burst
		}
		at := p.at + p.exp(time.Duration(float64(time.Second)/rate))
		if at <= p.until {
			p.at = at
			return at
		}
		p.at = p.until
		p.bursting = !p.bursting
		mean := p.c.Every
		if p.bursting {
			mean = p.c.Lasting
		}
		p.until += p.exp(mean)
	}
}

// wait returns false when ctx ended before the time came.
func wait(ctx context.Context, start time.Time, at time.Duration) bool {
	d := time.Until(start.Add(at))
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
