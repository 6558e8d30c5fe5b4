package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// trip is one request on its way: where it may go and where it went. Both paths use it.
type trip struct {
	proxy    *Proxy
	routing  *routing // that service is from
	service  *service
	path     string // decoded
	method   string
	began    time.Time
	hold     time.Time // when the wait for a row ends; zero until one is needed
	late     time.Time // when an answer has to have begun; zero: no limit
	turn     uint64
	source   Source      // "" until there is a turn
	row      *upstream   // claimed
	answered *upstream   // the row that answered
	tried    []*upstream // at most once a row
}

// begin finds the service and counts the request, or refuses it. The trip's memory of rows is reused.
func (t *trip) begin(p *Proxy, method, path string, now time.Time) error {
	r := p.routing.Load()
	*t = trip{proxy: p, routing: r, service: r.match(path), path: path, method: method, began: now, tried: t.tried[:0]}
	if t.service == nil {
		return errNoService
	}
	if d := t.service.Timeout; d > 0 {
		t.late = now.Add(d)
	}
	if internal(path) {
		if !t.service.ExposeInternal {
			return errInternal
		}
		return nil
	}
	if counts(t.service, path) {
		t.service.turns.served.Add(1)
	}
	return nil
}

// next claims the next row: that of the request's turn, then the ones after it. It
// waits where none is in rotation, or all are full. last is what the row before failed
// with; it is returned when there is no other.
func (t *trip) next(ctx context.Context, last error) error {
	if len(t.tried) > 0 {
		t.refresh()
	}
	for {
		if t.take(ctx) {
			return nil
		}
		r := t.proxy.routing.Load()
		if r != t.routing { // it is not from the newest table that there was none
			t.refresh()
			continue
		}
		if t.untried() {
			err := t.service.line.wait(ctx, t.left(), t.changes, func() bool { t.refresh(); return t.take(ctx) })
			if err != nil && ctx.Err() == nil && t.takeEjected() {
				return nil
			}
			return err
		}
		if !t.changed(ctx, r) {
			if last != nil {
				return last
			}
			return errNoRow
		}
		t.refresh()
	}
}

// changes returns what is closed when another table than the one in force comes.
func (t *trip) changes() <-chan struct{} { return t.proxy.routing.Load().changed }

// another says whether there is a row that has not been tried, and waits for one as
// long as the hold allows.
func (t *trip) another(ctx context.Context) bool {
	for {
		r := t.proxy.routing.Load()
		t.refresh()
		if t.untried() {
			return true
		}
		if !t.changed(ctx, r) {
			return false
		}
	}
}

// take claims a row, after it has taken the request's turn.
func (t *trip) take(ctx context.Context) bool {
	if len(t.service.rows) == 0 {
		return false
	}
	if t.source == "" {
		t.turn, t.source = t.service.turns.take(ctx, t.service.exact)
	}
	if t.row = t.service.pick(t.turn, t.tried); t.row == nil {
		return false
	}
	t.tried = append(t.tried, t.row)
	return true
}

// takeEjected claims a row that was passed over, when the others have had no room for as long
// as the request may wait: an answer is likelier from there than from here.
func (t *trip) takeEjected() bool {
	if t.source == "" {
		return false
	}
	if t.row = t.service.pickEjected(t.turn, t.tried); t.row == nil {
		return false
	}
	t.tried = append(t.tried, t.row)
	return true
}

// untried says whether a row of the rotation has not been tried. One that could not be
// claimed has no room, or drains, as the next table says.
func (t *trip) untried() bool {
	for _, u := range t.service.rows {
		if !contains(t.tried, u) {
			return true
		}
	}
	return false
}

// changed waits for another table than r; false when the hold is over.
func (t *trip) changed(ctx context.Context, r *routing) bool {
	timeout := time.NewTimer(t.left())
	defer timeout.Stop()
	select {
	case <-r.changed:
		return true
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false
}

// left is what is left of the hold, which begins when it is first needed.
func (t *trip) left() time.Duration {
	if t.hold.IsZero() {
		t.hold = time.Now().Add(t.proxy.cfg.Hold)
		if !t.late.IsZero() && t.late.Before(t.hold) {
			t.hold = t.late
		}
	}
	return time.Until(t.hold)
}

// patience is how long the row at hand has to begin its answer: all tries and waits of
// a request share one limit. 0 is for ever.
func (t *trip) patience() time.Duration {
	if t.late.IsZero() || len(t.tried) < 2 && t.hold.IsZero() {
		return t.service.Timeout
	}
	return max(time.Until(t.late), time.Millisecond)
}

// uploaded begins the wait for the answer anew: what the client took to send its body
// is not the row's time.
func (t *trip) uploaded() {
	if d := t.service.Timeout; d > 0 {
		t.late = time.Now().Add(d)
	}
}

// refresh goes on with the newest table. A service that has gone has no rows.
func (t *trip) refresh() {
	t.routing = t.proxy.routing.Load()
	if s := t.routing.match(t.path); s != nil && s.Name == t.service.Name {
		t.service = s
		return
	}
	gone := *t.service
	gone.rows = nil
	t.service = &gone
}

// settle counts the request out of the row it was on.
func (t *trip) settle() {
	if u := t.row; u != nil {
		t.row = nil
		u.settle()
		t.service.line.settled()
	}
}

// failed settles a try that ended with err, passes the row over for a moment, tells the
// leader, and says whether another row may have the request. whole means that all of
// the request's body is still at hand.
func (t *trip) failed(u *upstream, err error, s sent, whole bool) bool {
	t.settle()
	if blames(err) {
		t.blame(u, err)
	}
	if !mayRetry(t.method, err, s, whole) {
		return false
	}
	t.proxy.metrics.retries.Add(1)
	return true
}

func (t *trip) blame(u *upstream, err error) {
	if u.eject(time.Now()) {
		t.proxy.metrics.ejections.Add(1)
	}
	t.proxy.suspects.Suspect(t.service.Name, u.Number, u.Generation, err.Error())
}

// crashed says whether a 5xx answer of u comes of a crash: its health API fails too,
// asked after the answer. Then u is passed over, and the leader told.
func (t *trip) crashed(ctx context.Context, code int, u *upstream) bool {
	if code < 500 || t.service.HealthPath == "" {
		return false
	}
	path := cmp.Or(u.HealthPath, t.service.HealthPath)
	if u.health.ask(func() bool { return t.proxy.healthy(ctx, u, path, cmp.Or(t.service.HealthTimeout, healthTimeout)) }) || ctx.Err() != nil {
		return false
	}
	t.blame(u, errors.New("answered "+http.StatusText(code)+" and is not healthy"))
	return true
}

// healthTimeout bounds the question whether a row that answered 5xx has crashed, where its
// service does not say how long it may take: a row that is slow is not one that fails.
const healthTimeout = 300 * time.Millisecond

func (p *Proxy) healthy(ctx context.Context, u *upstream, path string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.Addr+path, nil)
	if err != nil {
		return false
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return errors.Is(err, errNode) // it could not be asked
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxHead)) // so that the connection is kept
	return resp.StatusCode == http.StatusOK
}

// sent is how much of a request may have reached a row.
type sent int

const (
	nothing   sent = iota // no byte of it
	something             // perhaps all of it
)

// mayRetry is the one place that says whether another row may get a request: when
// nothing was sent, any method; after that only an idempotent one; and never when part
// of its body is gone.
func mayRetry(method string, err error, s sent, whole bool) bool {
	if !whole || !blames(err) {
		return false
	}
	return s == nothing || idempotent(method)
}

// blames says whether err is surely the row's fault.
func blames(err error) bool {
	var r *refusal
	var tooLarge *http.MaxBytesError
	return !errors.As(err, &r) && !errors.As(err, &tooLarge) && !errors.Is(err, errGone)
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// safe says whether a request may be answered by another row after one has answered.
func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }
