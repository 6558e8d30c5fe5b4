package acts

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// fill posts n acts, the first with the number from.
func fill(t *testing.T, base string, from, n int) {
	t.Helper()
	for id := from; id < from+n; id++ {
		if status, answer, _ := ask(t, base, "POST", "/api/v1/acts", anAct(id, nil)); status != 201 {
			t.Fatalf("act %d: %d %s", id, status, answer)
		}
	}
}

// TestPagePagesOnWhileOthersShare lists each of more than a hundred acts once, newest
// first, though a whole page of newer ones comes in front and listed ones go.
func TestPagePagesOnWhileOthersShare(t *testing.T) {
	ctx := browser(t)
	base := service(t, t.TempDir()).URL
	settled(t, base)
	fill(t, base, 1, 104)
	const last = math.MaxInt64 // not a number of JavaScript's
	fill(t, base, last-1, 1)
	v := visit(t, ctx, "paging", 1280, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("first page", "document.querySelectorAll('#acts [data-act]').length === 20")
	v.do("vote for the first", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("counted", fmt.Sprintf("fetch('/api/v1/categories/green/acts?start=1&end=1&images=0').then(r => r.text()).then(s => s.includes('%d') && /\"upvotes\": ?1\\b/.test(s))", int64(last-1)))
	fill(t, base, 1000, 25)
	for _, id := range []int{104, 103, 102} {
		if status, answer, _ := ask(t, base, "DELETE", fmt.Sprintf("/api/v1/acts/%d", id), ""); status != 200 {
			t.Fatalf("delete %d: %d %s", id, status, answer)
		}
	}
	for n := 20; n < 105; n = min(n+20, 105) {
		v.until("there is more", fmt.Sprintf("document.querySelectorAll('#acts [data-act]').length > %d || (!document.querySelector('#more').disabled && !document.querySelector('#more').hidden && (document.querySelector('#more').click(), false))", n))
	}
	v.until("all", "document.querySelector('#more').hidden")
	got := value[[]string](v, "[...document.querySelectorAll('#acts [data-act]')].map(e => e.dataset.act).filter(id => id < 1000 || id > 2000)")
	want := []string{fmt.Sprint(int64(last - 1))}
	for id := 104; id > 0; id-- {
		want = append(want, fmt.Sprint(id))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("listed %v\nwant %v", got, want)
	}
	v.clean()
}

// TestPageLoadsThumbnailsWhenTheyAreNear: of a page of acts on a phone the last ones are not
// asked for before one scrolls to them; and none is asked for whole.
func TestPageLoadsThumbnailsWhenTheyAreNear(t *testing.T) {
	ctx := browser(t)
	base := service(t, t.TempDir()).URL
	settled(t, base)
	photo, err := os.ReadFile(jpegFile(t))
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 20; id++ {
		if status, answer, _ := ask(t, base, "POST", "/api/v1/acts", anAct(id, map[string]any{"imgB64": photo})); status != 201 {
			t.Fatal(answer)
		}
	}
	v := visit(t, ctx, "lazy", 390, 844, false)
	var asked sync.Map // the number of an act whose picture the browser wants → how
	err = chromedp.Listen(v.ctx, func(e any) {
		if x, ok := e.(*network.EventRequestWillBeSent); ok {
			if _, rest, ok := strings.Cut(x.Request.URL, "/api/v1/acts/"); ok {
				id, how, _ := strings.Cut(rest, "/")
				asked.Store(id, how)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	wanted := func() (n int) {
		asked.Range(func(_, how any) bool {
			if n++; how != "image?w=640" {
				t.Errorf("a picture is asked for as %s", how)
			}
			return true
		})
		return n
	}
	v.do("open", chromedp.Navigate(base))
	v.until("the first has come", "document.querySelectorAll('#acts [data-act]').length === 20 && document.querySelector('#acts img').naturalWidth === 640")
	if n := wanted(); n == 0 || n >= 12 {
		t.Errorf("%d of 20 pictures are asked for before anybody scrolls", n)
	}
	if _, ok := asked.Load("1"); ok || value[bool](v, "document.querySelector('#acts li:last-child img').complete") {
		t.Error("the last picture is asked for though it is far away")
	}
	value[bool](v, "(document.querySelector('#acts li:last-child').scrollIntoView(), true)")
	v.until("it comes when it is near", "document.querySelector('#acts li:last-child img').naturalWidth === 640")
	v.clean()
}

// TestPageSharesOnceWhenTheAnswerIsLost: a container that dies after it has stored an act
// makes the page send it again, not store it twice; a picture that a dying one did not
// give is asked for again.
func TestPageSharesOnceWhenTheAnswerIsLost(t *testing.T) {
	ctx := browser(t)
	x, _ := troubled(t)
	var lost atomic.Int64
	base := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" && r.URL.Path == "/api/v1/acts" && lost.Add(1) == 1 {
			x.proxy.ServeHTTP(httptest.NewRecorder(), r)
			http.Error(w, "it died", http.StatusBadGateway)
			return
		}
		x.ServeHTTP(w, r)
	})).URL
	settled(t, base)
	v := visit(t, ctx, "lost", 1000, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("open", "document.querySelector('#title').textContent === 'green'")
	v.signUp("eve")
	pictures := &fault{status: http.StatusInternalServerError, under: "/image"}
	x.answers(2, pictures)
	v.share(jpegFile(t), "held the door")
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("shared, and its picture has come", "document.querySelector('#acts img')?.naturalWidth === 640 && !document.querySelector('#post').open")
	if _, body, _ := ask(t, base, "GET", "/api/v1/acts/count", ""); body != "[1]" || lost.Load() != 2 || pictures.left.Load() >= 0 {
		t.Errorf("stored %s times, sent %d times, %d pictures refused", body, lost.Load(), 2-pictures.left.Load())
	}
	v.clean()
}

// TestPageAnswersLoadBalancers at once, to HEAD too.
func TestPageAnswersLoadBalancers(t *testing.T) {
	base := service(t, t.TempDir()).URL
	page, err := os.ReadFile("page/index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD"} {
		status, body, h := ask(t, base, method, "/", "")
		if status != 200 || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("ETag") == "" {
			t.Errorf("%s /: %d %v", method, status, h)
		}
		if method == "GET" && !bytes.Equal([]byte(body), bytes.TrimSpace(page)) {
			t.Errorf("GET / is another page: %.80s", body)
		}
	}
}
