package acts

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// queued is a store that is busy: what is added waits until it may leave.
type queued struct {
	store
	arrived, leave chan struct{}
}

func (q *queued) wait() {
	q.arrived <- struct{}{}
	<-q.leave
}

func (q *queued) addUser(ctx context.Context, name, password string) error {
	q.wait()
	return q.store.addUser(ctx, name, password)
}

func (q *queued) addCategory(ctx context.Context, name string) error {
	q.wait()
	return q.store.addCategory(ctx, name)
}

// TestNamesKeepTheirPlace in what may be decoded at once while they wait for the database.
func TestNamesKeepTheirPlace(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	q := &queued{s.store, make(chan struct{}), make(chan struct{})}
	s.store = q
	url := serving(t, s).URL
	long := strings.Repeat("x", 2*inMemory)
	ended := make(chan int)
	for path, body := range map[string]any{"/api/v1/users": map[string]string{"username": long, "password": hash}, "/api/v1/categories": []string{long}} {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			resp, err := http.Post(url+path, "application/json", strings.NewReader(string(b)))
			if err != nil {
				t.Error(err)
				ended <- 0
				return
			}
			resp.Body.Close()
			ended <- resp.StatusCode
		}()
		<-q.arrived
		if s.decoding.TryAcquire(maxDecoding) {
			s.decoding.Release(maxDecoding)
			t.Errorf("%s: its place is free while it waits", path)
		}
		q.leave <- struct{}{}
		if status := <-ended; status != http.StatusCreated {
			t.Errorf("%s: %d", path, status)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience) // the answer comes before
		if err := s.decoding.Acquire(ctx, maxDecoding); err != nil {
			t.Fatalf("%s: its place is never free again", path)
		}
		s.decoding.Release(maxDecoding)
		cancel()
	}
}

// TestALongBodyThatNobodyWants is not waited for, and its connection ends soon after the
// answer; a short one does no harm.
func TestALongBodyThatNobodyWants(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	s.idleBody = 2 * time.Second
	url := serving(t, s).URL
	for name, x := range map[string]struct {
		fields, body string
		closes       bool
	}{
		"its length, and a part": {"Content-Length: 100000", strings.Repeat(" ", inMemory), true},
		"its length, and all":    {"Content-Length: 100000", strings.Repeat(" ", 100000), true},
		"chunks without an end":  {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s", inMemory+1, strings.Repeat(" ", inMemory+1)), true},
		"as long as is taken":    {fmt.Sprintf("Content-Length: %d", inMemory), strings.Repeat(" ", inMemory), false},
		"short, in chunks":       {"Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n", false},
	} {
		for _, method := range []string{"GET", "DELETE"} {
			t.Run(method+" with "+name, func(t *testing.T) {
				t.Parallel()
				c := dialed(t, url)
				from := bufio.NewReader(c)
				for range 2 {
					fmt.Fprint(c, method+" /api/v1/acts/1 HTTP/1.1\r\nHost: a\r\n"+x.fields+"\r\n\r\n"+x.body)
					resp, err := http.ReadResponse(from, nil)
					if err != nil {
						t.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					if resp.Close != x.closes {
						t.Errorf("%s, closes: %t", resp.Status, resp.Close)
					}
					if !x.closes {
						continue // with another one
					}
					if _, err := from.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the connection goes on: %v", err)
					}
					return
				}
			})
		}
	}
}
