package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestContinue: the body is the client's to send once the row says so, and not before.
func TestContinue(t *testing.T) { both(t, testContinue) }

func testContinue(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	for name, c := range map[string]struct {
		row    func(*speaker)
		client func(*speaker)
	}{
		"the row says go on": {
			func(w *speaker) {
				if head := w.head(); !strings.Contains(strings.ToLower(head), "\r\nexpect: 100-continue\r\n") {
					t.Errorf("the row is not asked: %q", head)
				}
				w.say("HTTP/1.1 100 Continue\r\n\r\n")
				w.hear("hello")
				w.say(ok2)
			},
			func(w *speaker) {
				if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
					t.Errorf("first comes %q", head)
				}
				w.say("hello")
				if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
					t.Errorf("then comes %q", head)
				}
				w.hear("ok")
			},
		},
		"the row does not want it": {
			func(w *speaker) {
				w.head()
				w.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
				w.ended() // the rest of that body would be read as a request
			},
			func(w *speaker) {
				if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 417 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
					t.Errorf("there comes %q", head)
				}
				w.hear("no")
				w.hungUp()
			},
		},
		"the row answers without it": {
			func(w *speaker) {
				w.head()
				w.say(ok2)
				w.ended()
			},
			func(w *speaker) {
				if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
					t.Errorf("there comes %q", head)
				}
				w.hear("ok")
				w.hungUp()
			},
		},
		"the row never says go on": {
			func(w *speaker) {
				w.head()
				w.hear("hello")
				w.say(ok2)
			},
			func(w *speaker) {
				w.say("hello") // as a client does that has waited long enough
				head := w.head()
				if reference && strings.HasPrefix(head, "HTTP/1.1 100 ") { // net/http has not waited so long
					head = w.head()
				}
				if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
					t.Errorf("there comes %q", head)
				}
				w.hear("ok")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := call(t, startLimited(t, Config{}, patient(rowBy(t, 1, c.row))))
			w.say(post)
			c.client(w)
		})
	}
}

// hungUp says whether the proxy closes the client's connection over an unread body.
// net/http does so only when the body has come, or the client has gone.
func (w *speaker) hungUp() {
	w.t.Helper()
	if !reference {
		w.ended()
	}
}

// TestEarlyHints go on at once, before the row has its answer; the own path spares
// HTTP/1.0, which does not know them.
func TestEarlyHints(t *testing.T) { both(t, testEarlyHints) }

func testEarlyHints(t *testing.T) {
	for _, version := range []string{"1.1", "1.0"} {
		seen := make(chan struct{})
		p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
			w.head()
			w.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
			if version == "1.1" || reference {
				await(t, seen, "the hint")
			}
			w.say(ok2)
		})))
		w := call(t, p)
		w.say("GET / HTTP/" + version + "\r\nHost: h\r\nConnection: close\r\n\r\n")
		head := w.head()
		if version == "1.1" || reference {
			if !strings.HasPrefix(head, "HTTP/"+version+" 103 ") || !strings.Contains(head, "\r\nLink: </a.css>\r\n") {
				t.Errorf("first comes %q", head)
			}
			close(seen)
			head = w.head()
		}
		if !strings.Contains(head, " 200 OK") || strings.Contains(head, "Link") {
			t.Errorf("HTTP/%s: then comes %q", version, head)
		}
		w.hear("ok")
	}
}

// TestEventsAreNotHeldBack: each event reaches the client before the row has the next.
func TestEventsAreNotHeldBack(t *testing.T) { both(t, testEventsAreNotHeldBack) }

func testEventsAreNotHeldBack(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n", ""} {
		seen := make(chan int)
		p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
			w.head()
			w.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + "\r\n")
			for i := range 5 {
				event := fmt.Sprintf("data: %d\n\n", i)
				if framing != "" {
					event = fmt.Sprintf("%x\r\n%s\r\n", len(event), event)
				}
				w.say(event)
				if got := await(t, seen, "the event"); got != i {
					t.Errorf("event %d, want %d", got, i)
				}
			}
			if framing != "" {
				w.say("0\r\n\r\n")
			}
		})))
		w := call(t, p)
		w.say("GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
		if head := w.head(); !strings.Contains(head, "\r\nContent-Type: text/event-stream\r\n") || !strings.Contains(head, "\r\nTransfer-Encoding: chunked\r\n") {
			t.Fatalf("there comes %q", head)
		}
		for i := range 5 {
			event := fmt.Sprintf("data: %d\n\n", i)
			if !w.hear(fmt.Sprintf("%x\r\n%s\r\n", len(event), event)) {
				return
			}
			seen <- i
		}
		w.hear("0\r\n\r\n")
	}
}

// TestUploadIsNotHeldBack: each chunk reaches the row before the client has the next.
func TestUploadIsNotHeldBack(t *testing.T) { both(t, testUploadIsNotHeldBack) }

func testUploadIsNotHeldBack(t *testing.T) {
	arrived := make(chan int)
	p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
		w.head()
		for i := range 5 {
			w.hear(fmt.Sprintf("6\r\nhello%d\r\n", i))
			arrived <- i
		}
		w.hear("0\r\n\r\n")
		w.say(ok2)
	})))
	w := call(t, p)
	w.say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
	for i := range 5 {
		w.say(fmt.Sprintf("6\r\nhello%d\r\n", i))
		if got := await(t, arrived, "the chunk"); got != i {
			t.Errorf("chunk %d, want %d", got, i)
		}
	}
	w.say("0\r\n\r\n")
	if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("there comes %q", head)
	}
	w.hear("ok")
}

// TestLongPoll: a row that is silent for long before it answers is bounded by its
// service's limit alone, and not by those of heads, bodies and idle connections.
func TestLongPoll(t *testing.T) { both(t, testLongPoll) }

func testLongPoll(t *testing.T) {
	const short = 200 * time.Millisecond
	limits := Config{HeadTimeout: short, IdleTimeout: short, BodyTimeout: short, Hold: short, DialTimeout: patience}
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"} {
		silence := func(w *speaker) {
			for w.head() != "" {
				if strings.HasPrefix(request, "POST") {
					w.hear("2\r\nhi\r\n0\r\n\r\n")
				}
				<-time.After(5 * short)
				w.say(ok2)
			}
		}
		w := call(t, startLimited(t, limits, patient(rowBy(t, 1, silence))))
		w.say(request)
		if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Errorf("%.4s: without a limit there comes %q", request, head)
		}
		w.hear("ok")
		table := patient(rowBy(t, 1, func(w *speaker) { io.Copy(io.Discard, w.in) }))
		table.Services[0].Timeout = short
		w = call(t, startLimited(t, limits, table))
		w.say(request)
		if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 504 ") {
			t.Errorf("%.4s: with a limit there comes %q", request, head)
		}
	}
}

// TestQuietStream: a stream that pauses is not cut before QuietTimeout, and then visibly.
func TestQuietStream(t *testing.T) {
	const pause = 300 * time.Millisecond
	stream := func(again <-chan struct{}) func(*speaker) {
		return func(w *speaker) {
			w.head()
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
			<-again
			w.say("2\r\nyo\r\n0\r\n\r\n")
		}
	}
	get := func(quiet time.Duration, again <-chan struct{}) *speaker {
		w := call(t, startLimited(t, Config{QuietTimeout: quiet, IdleTimeout: pause / 3, BodyTimeout: pause / 3, HeadTimeout: pause / 3}, patient(rowBy(t, 1, stream(again)))))
		w.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		w.head()
		w.hear("2\r\nhi\r\n")
		return w
	}
	again := make(chan struct{})
	w := get(patience, again)
	<-time.After(pause)
	close(again)
	w.hear("2\r\nyo\r\n0\r\n\r\n")
	never := make(chan struct{})
	defer close(never)
	get(pause, never).ended()
}
