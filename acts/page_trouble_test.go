package acts

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

// trouble stands before a service and answers for it while it is told to.
type trouble struct {
	now   atomic.Pointer[fault]
	proxy *httputil.ReverseProxy
}

// fault is what it answers, to the requests that match.
type fault struct {
	status int
	only   string // method; empty for any
	under  string // what the path has in it
	left   atomic.Int64
}

// answers the next n requests that match, at once and whole: a request that is under way
// meets the fault before, or this one.
func (x *trouble) answers(n int64, f *fault) {
	f.left.Store(n)
	x.now.Store(f)
}

func (x *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := x.now.Load()
	if f != nil && strings.HasPrefix(r.URL.Path, "/api/") && (f.only == "" || f.only == r.Method) && strings.Contains(r.URL.Path, f.under) && f.left.Add(-1) >= 0 {
		if f.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, "crashed", f.status)
		return
	}
	x.proxy.ServeHTTP(w, r)
}

func troubled(t *testing.T) (*trouble, string) {
	t.Helper()
	u, err := url.Parse(service(t, t.TempDir()).URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	x := &trouble{proxy: httputil.NewSingleHostReverseProxy(u)}
	x.proxy.Transport = transport
	return x, serving(t, x).URL
}

// TestPageInTrouble says what is wrong, tries again, and loses nothing that was written.
func TestPageInTrouble(t *testing.T) {
	ctx := browser(t)
	x, base := troubled(t)
	settled(t, base)
	v := visit(t, ctx, "trouble", 1000, 800, false)
	for _, c := range []struct {
		status int
		says   string
	}{{http.StatusServiceUnavailable, "The service is busy."}, {http.StatusInternalServerError, "A container crashed"}} {
		x.answers(1<<30, &fault{status: c.status})
		v.do("open", chromedp.Navigate(base))
		v.until(c.says, fmt.Sprintf("!document.querySelector('#net').hidden && document.querySelector('#net').textContent.startsWith(%s)", quoted(c.says)))
		v.picture("says-so")
		x.answers(0, &fault{})
		v.until("it recovers", "document.querySelector('#net').hidden && document.querySelector('#title').textContent === 'green'")
	}
	v.signUp("eve")

	// A crash in the middle of sharing: it is sent again, and stored once.
	v.share(jpegFile(t), "held the door")
	x.answers(2, &fault{status: http.StatusInternalServerError, only: "POST"})
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("shared", "document.querySelectorAll('#acts .card').length === 1 && !document.querySelector('#post').open")
	if _, body, _ := ask(t, base, "GET", "/api/v1/acts/count", ""); body != "[1]" {
		t.Errorf("stored %s times", body)
	}

	// A vote that can not be counted is taken back; so it is for a refusal.
	if status, _, _ := ask(t, base, "DELETE", fmt.Sprintf("/api/v1/acts/%d", value[int64](v, "Number(document.querySelector('#acts [data-act]').dataset.act)")), ""); status != 200 {
		t.Fatal("not deleted behind its back")
	}
	v.do("vote", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("taken back, and told", "document.querySelector('#acts .vote').textContent.includes('0') && document.querySelector('#toast').textContent.startsWith('Your vote was not counted')")

	// Nothing comes through at all: what was written is still there.
	v.share(jpegFile(t), "paid for two")
	x.answers(1<<30, &fault{status: http.StatusInternalServerError, only: "POST"})
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("told inside the dialog, where alone it is seen and read out", "document.querySelector('#post').contains(document.querySelector('#net')) && !document.querySelector('#net').hidden")
	v.until("told", "document.querySelector('#post-error').textContent.startsWith('It was not shared')")
	v.picture("not-shared")
	if got := value[string](v, "document.querySelector('#caption').value"); got != "paid for two" || value[bool](v, "document.querySelector('#preview').hidden") {
		t.Errorf("what was written is gone: %q", got)
	}
	v.clean()
}

// TestPageTakesAVoteBack that is not known to be counted: it shows at once, is sent once,
// for a second would count twice, and when a container died under it the page says what it
// does not know, asks how many votes there are, and shows those: without this one, or with
// it. An earlier vote stays. One that has certainly done nothing, in a busy container or in one
// that has crashed before, is sent again by itself.
func TestPageTakesAVoteBack(t *testing.T) {
	ctx := browser(t)
	x, _ := troubled(t)
	var sent atomic.Int64
	held := make(chan struct{})
	var crashed atomic.Bool // the next vote meets a container that has crashed
	var late atomic.Bool    // the next vote is counted by a container that dies before it says so
	dead := opened(t, Config{Data: t.TempDir()})
	if status, _, _ := ask(t, serving(t, dead).URL, "POST", "/api/v1/_crash", ""); status != 200 {
		t.Fatal("not crashed")
	}
	base := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/upvote") && sent.Add(1) == 2 {
			<-held
			http.Error(w, "it died", http.StatusBadGateway)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/upvote") && late.CompareAndSwap(true, false) {
			x.ServeHTTP(httptest.NewRecorder(), r)
			x.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/api/v1/acts/upvote", strings.NewReader("[1]"))) // somebody else's
			http.Error(w, "it died", http.StatusBadGateway)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/upvote") && crashed.CompareAndSwap(true, false) {
			dead.ServeHTTP(w, r)
			return
		}
		x.ServeHTTP(w, r)
	})).URL
	settled(t, base)
	fill(t, base, 1, 1)
	v := visit(t, ctx, "vote", 1000, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("listed", "document.querySelector('#acts .vote') !== null")
	shows := func(n int, voted bool) string {
		return fmt.Sprintf("document.querySelector('#acts .vote').textContent.includes('%d') && document.querySelector('#acts .vote').hasAttribute('data-voted') === %v && document.querySelector('#acts .vote').getAttribute('aria-label').includes('%d vote')", n, voted, n)
	}
	// counted is of the service; the page shows a vote before. A promise is true by itself,
	// so that it comes last.
	counted := func(n int) string {
		return shows(n, true) + fmt.Sprintf(" && fetch('/api/v1/categories/green/acts?images=0').then(r => r.json()).then(a => a[0].upvotes === %d)", n)
	}
	v.do("vote", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("counted", counted(1))
	v.do("vote again", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("shown before the answer", shows(2, true))
	value[bool](v, "(() => { window.said = []; const toast = document.querySelector('#toast'); return new MutationObserver(() => said.push(toast.textContent)).observe(toast, { childList: true }) === undefined; })()") // it fades
	close(held)
	v.until("taken back, the first one stays", shows(1, true)+" && said.some((s) => s === 'Your vote may not have been counted. The service does not answer. Look at the number before you vote again.')")
	if n := sent.Load(); n != 2 {
		t.Errorf("sent %d times", n)
	}
	x.answers(1, &fault{status: http.StatusServiceUnavailable, under: "/upvote"})
	v.do("vote when it is busy", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("counted in the end", counted(2))
	v.until("sent again", "document.querySelector('#net').hidden")
	if n := sent.Load(); n != 4 {
		t.Errorf("sent %d times", n)
	}
	crashed.Store(true)
	v.do("vote in a container that has crashed", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("counted by the next one", counted(3))
	if crashed.Load() {
		t.Error("the crashed container was not asked")
	}
	fill(t, base, 30, 110) // newer ones, more than a list has, of which this page knows nothing
	late.Store(true)
	v.do("vote in a container that dies too late", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("told that it is not known", "document.querySelector('#toast').textContent.startsWith('Your vote may not have been counted.')")
	v.until("shown as it was counted, with somebody else's", shows(5, true)+" && fetch('/api/v1/categories/green/acts?start=111&end=111&images=0').then(r => r.json()).then(a => a[0].upvotes === 5)")
	v.clean()
}

// TestPageRetriesWhateverHappens to what it reads: overloaded, crashed, dead under the
// request, gone without an answer, or an answer that is none.
func TestPageRetriesWhateverHappens(t *testing.T) {
	ctx := browser(t)
	x, _ := troubled(t)
	var faults atomic.Int64
	var fault atomic.Value
	fault.Store(0)
	base := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := fault.Load().(int); strings.HasPrefix(r.URL.Path, "/api/v1/categories") && faults.Add(-1) >= 0 {
			if status == 0 {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "no", status)
			return
		}
		x.ServeHTTP(w, r)
	})).URL
	settled(t, base)
	fill(t, base, 1, 1)
	v := visit(t, ctx, "retry", 1000, 800, false)
	for status, says := range map[int]string{0: "No connection.", 429: "The service is busy.", 503: "The service is busy.", 500: "A container crashed", 502: "The service does not answer.", 504: "The service does not answer."} {
		fault.Store(status)
		faults.Store(1 << 30) // browsers repeat some requests by themselves
		v.do("open", chromedp.Navigate(base))
		v.until(says, fmt.Sprintf("!document.querySelector('#net').hidden && document.querySelector('#net').textContent.startsWith(%s)", quoted(says)))
		faults.Store(0)
		v.until("it recovers", "document.querySelector('#net').hidden && document.querySelectorAll('#acts [data-act]').length === 1")
	}
	v.clean()
}
