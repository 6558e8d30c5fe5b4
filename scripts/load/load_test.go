package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image/jpeg"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"orch/acts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service runs a real acts in a folder of its own and returns its base URL.
func service(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	c := acts.Config{Listen: addr, Data: t.TempDir(), MaxPhoto: acts.DefaultMaxPhoto, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	ended := make(chan error, 1)
	go func() { ended <- acts.Run(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get("http://" + addr + "/api/v1/_health")
		if err == nil {
			resp.Body.Close()
			return "http://" + addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func get[T any](t *testing.T, url string) (status int, value T) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &value); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, value
}

func TestPeopleReadVoteAndPost(t *testing.T) {
	base := service(t)
	var out bytes.Buffer
	err := run(t.Context(), []string{"-addr", base, "-rate", "200", "-requests", "600", "-for", "60s", "-keep", "-photo", "2000"}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"600 requests, 0 failed", "POST 201", "GET 200"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
	if _, n := get[[]int64](t, base+"/api/v1/acts/count"); len(n) != 1 || n[0] == 0 {
		t.Errorf("nobody posted: %v", n)
	}
}

func TestTakesAwayWhatItMade(t *testing.T) {
	base := service(t)
	if err := run(t.Context(), []string{"-addr", base, "-rate", "200", "-requests", "150"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if status, names := get[[]string](t, base+"/api/v1/users"); status != http.StatusNoContent {
		t.Errorf("users stay: %v", names)
	}
	if status, names := get[map[string]int](t, base+"/api/v1/categories"); status != http.StatusNoContent {
		t.Errorf("categories stay: %v", names)
	}
}

func TestEndsInTime(t *testing.T) {
	base := service(t)
	start := time.Now()
	if err := run(t.Context(), []string{"-addr", base, "-rate", "50", "-for", "1s"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second || took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestSettlingEndsInTime: a service that does not answer holds a run up no longer than -for,
// and clearing up no longer than its own limit.
func TestSettlingEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Default()
		c.For, c.Users, c.Categories, c.Requests = 10*time.Second, 1000, 1000, 3000
		start := time.Now()
		town, err := newTown(c, start)
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		v := newVisitor(c, start)
		v.http.Transport = answer(func(r *http.Request) (*http.Response, error) {
			if asked.Add(1); r.Method == http.MethodDelete {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			select { // each request alone is quick enough
			case <-time.After(100 * time.Millisecond):
				return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		if err := through(t.Context(), c, town, v, io.Discard); err == nil || !strings.Contains(err.Error(), "-for 10s was over") {
			t.Errorf("error %v", err)
		}
		if took, n := time.Since(start), asked.Load(); took > c.For || n < 90 || n > 101 {
			t.Errorf("took %s and %d requests", took, n)
		}
		town.users, town.categories = town.users[:3], town.categories[:3]
		start = time.Now()
		if err := cleared(t.Context(), c, town, v); err == nil || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("nothing was removed; it says, not in one line: %v", err)
		}
		if took := time.Since(start); took > clearing {
			t.Errorf("clearing took %s", took)
		}
	})
}

type answer func(*http.Request) (*http.Response, error)

func (f answer) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFailuresAreToldAndCounted(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && n.Add(1)%2 == 0 {
			http.Error(w, "crashed", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "{}")
	}))
	defer s.Close()
	var out bytes.Buffer
	err := run(t.Context(), []string{"-addr", s.URL, "-rate", "500", "-requests", "100"}, &out)
	if err == nil || !strings.Contains(err.Error(), "requests failed") || !strings.Contains(out.String(), "failed: GET 500: crashed") {
		t.Errorf("error %v, report:\n%s", err, &out)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	err = run(t.Context(), []string{"-addr", "http://" + addr}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "does the service run there?") {
		t.Errorf("error %v", err)
	}
}

func TestFaultyFlagsAreAllNamed(t *testing.T) {
	err := run(t.Context(), []string{"-addr", "127.0.0.1:80", "-rate", "0", "-burst", "0.5", "-for", "48h", "-requests", "0", "-people", "0", "-skew", "1", "-photo", "1", "-users", "1000"}, io.Discard)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, flag := range []string{"-addr", "-rate", "-burst", "-for", "-requests", "-people", "-skew", "-photo"} {
		if !strings.Contains(err.Error(), flag+" ") {
			t.Errorf("%s is not named in: %v", flag, err)
		}
	}
}

func TestPaceHasItsMeanAndItsBursts(t *testing.T) {
	c := Default()
	p := newPace(c)
	const end = 10_000 * time.Second
	perSecond := map[int]int{}
	visits := 0
	for at := p.next(); at < end; at = p.next() {
		visits++
		perSecond[int(at/time.Second)]++
	}
	share := c.Lasting.Seconds() / (c.Lasting + c.Every).Seconds()
	want := end.Seconds() * c.Rate * (1 - share + share*c.Burst)
	if ratio := float64(visits) / want; ratio < 0.85 || ratio > 1.15 {
		t.Errorf("%d visits, want about %.0f", visits, want)
	}
	busy := 0
	for _, n := range perSecond {
		if float64(n) > 4*c.Rate {
			busy++
		}
	}
	if got := float64(busy) / end.Seconds(); got < share/2 || got > share*1.5 {
		t.Errorf("%.3f of the seconds are bursts, want about %.3f", got, share)
	}
}

func TestCategoriesAreZipf(t *testing.T) {
	c := Default()
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 3)), c.Skew, 1, uint64(c.Categories-1))
	counts := make([]int, c.Categories)
	for range 10_000 {
		counts[z.Uint64()]++
	}
	if counts[0] < 2*counts[1] || counts[1] <= counts[5] || counts[11] == 0 {
		t.Errorf("not the shape of a favourite: %v", counts)
	}
}

func TestPhotoIsAJPEGOfItsSize(t *testing.T) {
	for _, size := range []int{2 << 10, 40 << 10, 300 << 10} {
		b, err := photo(size, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jpeg.Decode(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
		if ratio := float64(len(b)) / float64(size); ratio < 0.5 || ratio > 1.6 {
			t.Errorf("asked for %d bytes, got %d", size, len(b))
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := h.quantile(q); got < want || float64(got) > 1.13*float64(want) {
			t.Errorf("quantile %v is %s, want %s", q, got, want)
		}
	}
}
