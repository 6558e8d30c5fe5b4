package engine

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/docker/docker/api/types/events"
)

// eventsPause is the wait before a broken stream of events is opened again.
const eventsPause = 100 * time.Millisecond

// Events returns the events of the containers that have all labels. The engine's
// stream ends at any hiccup and may lose some; it is opened again from where it
// was, and once it is open a Resync event says that the reader should look for
// itself. The channel is closed when ctx ends.
func (d *Docker) Events(ctx context.Context, labels map[string]string) <-chan Event {
	out := make(chan Event, eventBuffer)
	go func() {
		defer close(out)
		since, gap := time.Now(), false
		for ctx.Err() == nil {
			since = d.stream(ctx, labels, since, gap, out)
			gap = true
			select {
			case <-ctx.Done():
			case <-time.After(eventsPause):
			}
		}
	}()
	return out
}

// stream forwards events until the stream breaks, and returns where to go on.
// After a gap it says so as soon as nothing more can be missed.
func (d *Docker) stream(ctx context.Context, labels map[string]string, since time.Time, gap bool, out chan<- Event) time.Time {
	if d.connect(ctx) != nil {
		return since
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := labelFilter(labels)
	f.Add("type", string(events.ContainerEventType))
	for _, kind := range []events.Action{
		events.ActionStart, events.ActionDie, events.ActionKill, events.ActionStop, events.ActionPause,
		events.ActionUnPause, events.ActionOOM, events.ActionDestroy,
	} {
		f.Add("event", string(kind))
	}
	opts := events.ListOptions{Filters: f, Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())}
	in, errs := d.cli.Events(ctx, opts) // returns when the engine has answered
	select {
	case <-errs:
		return since
	default:
	}
	if gap {
		send(ctx, out, Event{Kind: Resync, At: time.Now()})
	}
	for {
		select {
		case <-errs:
			return since
		case e := <-in:
			since = time.Unix(0, e.TimeNano+1)
			send(ctx, out, fromMessage(e))
		}
	}
}

func fromMessage(e events.Message) Event {
	labels := maps.Clone(e.Actor.Attributes)
	name := labels["name"]
	// What the engine itself mixes in with the labels; exitCode stays, for a reader who
	// hears of an end before the listing shows it.
	for _, k := range []string{"name", "image", "signal"} {
		delete(labels, k)
	}
	return Event{Name: name, ID: e.Actor.ID, Kind: string(e.Action), Labels: labels, At: time.Unix(0, e.TimeNano)}
}

func send(ctx context.Context, out chan<- Event, e Event) {
	select {
	case out <- e:
	case <-ctx.Done():
	}
}
