package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// clearing is how long taking everything away may last, also after an interrupt.
const clearing = 30 * time.Second

// Run makes the town, sends visits until time or requests are over or ctx ends, and
// takes the town away. The tally is nil only when there was nothing to count.
func Run(ctx context.Context, c Config, out io.Writer) (*tally, error) {
	now := time.Now()
	t, err := newTown(c, now)
	if err != nil {
		return nil, err
	}
	v := newVisitor(c, now)
	defer v.http.CloseIdleConnections()
	if !c.Keep {
		defer func() {
			w := newVisitor(c, now) // what it counts is not part of the load
			defer w.http.CloseIdleConnections()
			if err := cleared(ctx, c, t, w); err != nil {
				fmt.Fprintf(out, "not all that begins with %s could be removed: %v\n", t.prefix, err)
			}
		}()
	}
	return v.tally, through(ctx, c, t, v, out)
}

// through makes the town and sends the visits, both within c.For and c.Requests.
func through(ctx context.Context, c Config, t *town, v *visitor, out io.Writer) error {
	during, cancel := context.WithTimeoutCause(ctx, c.For, errSpent)
	defer cancel()
	if err := t.settle(during, v); err != nil {
		if ctx.Err() == nil && during.Err() != nil {
			return fmt.Errorf("-for %s was over before all users and categories were made; allow more time, or fewer of them: %w", c.For, err)
		}
		return err
	}
	fmt.Fprintf(out, "visiting %d categories for %s, at most %d requests; what is made begins with %s\n", c.Categories, c.For, c.Requests, t.prefix)
	return visits(during, c, t, v)
}

// cleared takes the town away, one request for each who and what of it, within clearing.
func cleared(ctx context.Context, c Config, t *town, v *visitor) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearing)
	defer cancel()
	v.left.Store(int64(c.Users + c.Categories))
	return t.clear(ctx, v)
}

// visits begins each at its time whether or not earlier ones are answered, as people
// do, but no more than c.People at once.
func visits(ctx context.Context, c Config, t *town, v *visitor) error {
	r := rand.New(rand.NewPCG(c.Seed, 3))
	favourites := rand.NewZipf(r, c.Skew, 1, uint64(c.Categories-1))
	p := newPace(c)
	seats := make(chan struct{}, c.People)
	var wg sync.WaitGroup
	defer wg.Wait()
	start := time.Now()
	for wait(ctx, start, p.next()) && v.left.Load() > 0 {
		person, favourite := rand.New(rand.NewPCG(c.Seed, r.Uint64())), favourites.Uint64()
		select {
		case seats <- struct{}{}:
		default:
			v.tally.skip()
			continue
		}
		wg.Go(func() {
			defer func() { <-seats }()
			_ = v.visit(ctx, t, person, favourite) // spent, or over: the loop sees it too
		})
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errSpent) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
