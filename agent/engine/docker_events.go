package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
)

// eventsRetry is the wait before the stream of events is opened again.
const eventsRetry = 200 * time.Millisecond

// Events returns the events of the containers that have all labels. The stream
// ends at any hiccup and may lose some; it is opened again from where it was, and
// a Resync event says that the reader should look for itself. The channel is
// closed when ctx ends.
func (d *Docker) Events(ctx context.Context, labels map[string]string) <-chan Event {
	out := make(chan Event, 64)
	go func() {
		defer close(out)
		since := time.Now()
		for ctx.Err() == nil {
			if d.connect(ctx) == nil {
				since = d.stream(ctx, labels, since, out)
			}
			select {
			case <-ctx.Done():
			case <-time.After(eventsRetry):
			}
			send(ctx, out, Event{Kind: Resync, At: time.Now()})
		}
	}()
	return out
}

// stream forwards events until the stream breaks; it returns when the last was.
func (d *Docker) stream(ctx context.Context, labels map[string]string, since time.Time, out chan<- Event) time.Time {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := labelFilter(labels)
	f.Add("type", string(events.ContainerEventType))
	in, errs := d.cli.Events(ctx, events.ListOptions{Filters: f, Since: strconv.FormatInt(since.Unix(), 10)})
	for {
		select {
		case <-errs:
			return since
		case e := <-in:
			since = time.Unix(0, e.TimeNano)
			send(ctx, out, Event{
				Name: e.Actor.Attributes["name"], ID: e.Actor.ID, Kind: string(e.Action),
				Labels: e.Actor.Attributes, At: since,
			})
		}
	}
}

func send(ctx context.Context, out chan<- Event, e Event) {
	select {
	case out <- e:
	case <-ctx.Done():
	}
}
