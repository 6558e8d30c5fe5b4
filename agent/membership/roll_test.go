package membership

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// states is what a roll says, as "id=status".
func states(r *roll) string {
	var all []string
	for _, m := range r.members() {
		all = append(all, m.ID+"="+m.Status)
	}
	return strings.Join(all, " ")
}

func TestRoll(t *testing.T) {
	r := newRoll()
	now := time.Unix(1000, 0)
	later := func(d time.Duration) time.Time { return now.Add(d) }
	r.heard("b", "127.0.0.2:1", wireMeta{}, true, now)
	r.heard("a", "127.0.0.1:1", wireMeta{}, true, now)
	expect := func(want string) {
		t.Helper()
		if got := states(r); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	expect("a=alive b=alive")
	r.doubt("a", time.Second, later(time.Second))
	expect("a=alive b=alive") // not longer than its patience, and never itself
	r.doubt("a", time.Second, later(2*time.Second))
	expect("a=alive b=suspect")
	r.answered("b", later(3*time.Second))
	expect("a=alive b=alive")
	r.gone("b", later(4*time.Second))
	expect("a=alive b=dead")
	r.answered("b", later(5*time.Second)) // an old answer raises nobody
	expect("a=alive b=dead")
	r.heard("b", "127.0.0.2:1", wireMeta{}, false, later(5*time.Second)) // nor does old metadata
	expect("a=alive b=dead")
	r.heard("b", "127.0.0.2:2", wireMeta{Leaving: true}, true, later(6*time.Second))
	r.gone("b", later(7*time.Second))
	expect("a=alive b=left")
	r.gone("nobody", now)
	r.answered("nobody", now)
	if since := r.members()[1].Since; !since.Equal(later(7 * time.Second)) {
		t.Errorf("since %v", since)
	}

	var known, is atomic.Bool
	welcome := func(m Member) (bool, bool) { return m.ID == "a" || is.Load(), known.Load() }
	is.Store(true)
	r.forget(welcome, later(forgetAfter))
	expect("a=alive b=left")
	known.Store(true)
	r.forget(welcome, later(3*forgetAfter)) // the table still names it
	expect("a=alive b=left")
	is.Store(false)
	r.forget(welcome, later(8*time.Second))
	expect("a=alive")
}

// One that is refused and then welcome again is seen again, although memberlist
// says only once that it is there.
func TestWelcomeAgain(t *testing.T) {
	var refuse atomic.Bool
	_, n := three(t, func(cfg *Config) {
		cfg.Allow = func(id, _ string) error {
			if id == "c" && refuse.Load() {
				return errors.New("removed from the table")
			}
			return nil
		}
	})
	refuse.Store(true)
	if s := n[0].sees("c").Status; s != "" {
		t.Fatalf("a removed node is %s", s)
	}
	if s := n[2].sees("c").Status; s != Alive {
		t.Fatalf("it sees itself as %q", s)
	}
	refuse.Store(false)
	if s := n[0].sees("c").Status; s != Alive {
		t.Fatalf("welcome again, and %q", s)
	}
}

// A node that others hear and this one does not: UDP is closed between them.
func TestSilentNodeIsTrouble(t *testing.T) {
	c := &cluster{t: t}
	l, err := New(c.config("a", "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Minute)
	l.roll.heard("b", "127.0.0.2:7482", wireMeta{}, true, long)
	l.roll.doubt("a", time.Second, long.Add(2*time.Second))
	faults := l.silent()
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), "127.0.0.2:7482") || !strings.Contains(faults[0].Error(), "UDP") {
		t.Fatalf("got %v", faults)
	}
	l.cfg.Gone = func(addr string) bool { return addr == "127.0.0.2:7482" }
	if faults := l.silent(); len(faults) != 0 {
		t.Fatalf("of one that has left: %v", faults)
	}
	l.cfg.Gone = nil
	l.roll.answered("b", time.Now())
	if faults := l.silent(); len(faults) != 0 {
		t.Fatalf("got %v", faults)
	}
}

// TestWhoHasLeftIsNoTrouble when nothing answers there any more.
func TestWhoHasLeftIsNoTrouble(t *testing.T) {
	c, nodes := three(t, nil)
	a := nodes[0]
	gone := a.sees("c").Addr
	nodes[2].kill(t)
	until(t, "the loss is trouble", func() bool { return trouble(a) != "" })
	cfg := c.config("d", "127.0.0.9")
	var asked atomic.Int32
	cfg.Gone = func(addr string) bool {
		if addr == gone {
			asked.Add(1)
		}
		return addr == gone
	}
	d := c.start(cfg)
	until(t, "it has looked around, twice", func() bool { return asked.Load() > 1 && d.sees("a").Status == Alive && d.sees("b").Status == Alive })
	if err := trouble(d); err != "" {
		t.Errorf("the loss of one that has left: %v", err)
	}
}

func TestGarbageMetadata(t *testing.T) {
	for _, b := range []string{"", "{", "null", "[]", `{"a":7}`, "\xff\xfe", strings.Repeat("[", 10000)} {
		if got := decodeMeta([]byte(b)); got != (wireMeta{}) {
			t.Errorf("%.20q: %+v", b, got)
		}
	}
	m := wireMeta{Meta: Meta{API: "1", Raft: "2", Proxy: "3", Version: "4"}, Leaving: true}
	b, err := m.encode()
	if err != nil || decodeMeta(b) != m {
		t.Errorf("%s, %v", b, err)
	}
}

func TestWarningsAreSaidOnce(t *testing.T) {
	var out strings.Builder
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 50 {
		line := "[ERR] memberlist: Failed to send gossip to 127.0.0.2:" + string(rune('0'+i%10)) + ": refused\n"
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
		if _, err := w.Write([]byte("[DEBUG] memberlist: Stream connection\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 1 || !strings.Contains(out.String(), "level=WARN") {
		t.Fatalf("%d lines: %s", got, out.String())
	}
}

// TestWarningsAreBounded: a stranger writes into them what he likes, in any number.
func TestWarningsAreBounded(t *testing.T) {
	var out strings.Builder
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 10_000 {
		label := strings.Map(func(r rune) rune { return r - '0' + 'a' }, strconv.Itoa(i))
		fmt.Fprintf(w, "[ERR] memberlist: discarding packet with unacceptable label %q\n", label)
	}
	if got := strings.Count(out.String(), "\n"); got != maxKinds || len(w.seen) != maxKinds {
		t.Errorf("%d lines, %d kept of 10,000", got, len(w.seen))
	}
	if now := time.Now().Add(repeatAfter); !w.fresh("another", now) || len(w.seen) != 1 {
		t.Errorf("a minute later a new one is not said, or %d old ones are kept", len(w.seen)-1)
	}
}
