package acts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium. Where there is none the test is skipped, but not
// in CI.
func browser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Chromium is installed (apt-get install chromium)")
		}
		t.Skip("no Chromium is installed (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits for the browser
		end()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// visitor is one tab, with a size, that has no page yet.
type visitor struct {
	t      *testing.T
	ctx    context.Context
	name   string // of its screenshots
	shot   int
	errors atomic.Pointer[[]string] // what scripts have thrown
}

// patience is what a condition may take on a machine that others use too.
const patience = 30 * time.Second

func visit(t *testing.T, ctx context.Context, name string, width, height int64, dark bool) *visitor {
	t.Helper()
	v := &visitor{t: t, name: name}
	v.errors.Store(&[]string{})
	tab, close := chromedp.NewContext(ctx)
	t.Cleanup(close)
	v.ctx = tab
	if err := chromedp.Do(tab); err != nil {
		t.Fatal(err)
	}
	err := chromedp.Listen(tab, func(e any) {
		if x, ok := e.(*runtime.EventExceptionThrown); ok {
			all := append(*v.errors.Load(), fmt.Sprintf("%+v", x.ExceptionDetails))
			v.errors.Store(&all)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	v.do("open a tab", chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
	return v
}

func (v *visitor) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		v.picture("failed")
		v.t.Fatalf("%s: %s: %v", v.name, what, err)
	}
}

// until waits for a JavaScript expression to be true.
func (v *visitor) until(what, expression string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for { // chromedp.Poll evaluates text in the page, which the page's policy forbids
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Promise.resolve("+expression+").then(Boolean)", chromedp.EvalAwaitPromise))
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			v.picture("failed")
			v.t.Fatalf("%s: never came true: %s (%v)", v.name, what, err)
		case <-tick.C:
		}
	}
}

// value of a JavaScript expression.
func value[T any](v *visitor, expression string) (x T) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	x, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Fatalf("%s: %.100s: %v", v.name, expression, err)
	}
	return x
}

// picture keeps a screenshot below artifacts/page at the repository's top.
func (v *visitor) picture(what string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	b, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		v.t.Logf("no picture of %s: %v", what, err)
		return
	}
	dir := filepath.Join("..", "artifacts", "page")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		v.t.Fatal(err)
	}
	v.shot++
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", v.name, v.shot, what)), b, 0o644); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitor) clean() {
	v.t.Helper()
	if all := *v.errors.Load(); len(all) > 0 {
		v.t.Errorf("%s: scripts have thrown %q", v.name, all)
	}
}

func (v *visitor) signUp(name string) {
	v.t.Helper()
	v.do("sign up", chromedp.Click(chromedp.CSS("#account-open")), chromedp.SendKeys(chromedp.CSS("#username"), name), chromedp.SendKeys(chromedp.CSS("#password"), "correct horse"), chromedp.Click(chromedp.CSS("#account-form [type=submit]")))
	v.until("signed up", fmt.Sprintf("document.querySelector('#account-open').textContent === %s && !document.querySelector('#account').open", quoted(name)))
}

func (v *visitor) makeCategory(name string) {
	v.t.Helper()
	v.do("make a category", chromedp.Click(chromedp.CSS("#manage-open")), chromedp.SendKeys(chromedp.CSS("#new-category"), name), chromedp.Click(chromedp.CSS("#manage-form [type=submit]")))
	v.until("category made", fmt.Sprintf("document.querySelector('#title').textContent === %s && !document.querySelector('#manage').open", quoted(name)))
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// jpegFile is a real photo, larger than what is sent of it.
func jpegFile(t *testing.T) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 2400, 1800))
	for y := range 1800 {
		for x := range 2400 {
			m.SetRGBA(x, y, color.RGBA{uint8(90 + x/20), uint8(140 + y/30), uint8(110 - (x+y)/60), 255})
		}
	}
	for y := range 500 {
		for x := range 500 {
			m.SetRGBA(950+x, 600+y, color.RGBA{246, 217, 139, 255})
		}
	}
	path := filepath.Join(t.TempDir(), "deed.jpg")
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// share posts an act through the dialog.
func (v *visitor) share(file, caption string) {
	v.t.Helper()
	v.do("choose a photo", chromedp.Click(chromedp.CSS("#post-open")), chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	v.until("preview", "!document.querySelector('#preview').hidden && document.querySelector('#preview').naturalWidth === 1600")
	v.do("write", chromedp.SendKeys(chromedp.CSS("#caption"), caption))
}

// TestPage is a visit, on a phone and on a desk, by daylight and by night: sign up, make
// a category, share a real photo, see it, vote, delete it.
func TestPage(t *testing.T) {
	ctx := browser(t)
	file := jpegFile(t)
	for name, size := range map[string][2]int64{"phone": {390, 844}, "desktop": {1280, 800}} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, Config{Data: t.TempDir()})
			base := serving(t, s).URL
			v := visit(t, ctx, name, size[0], size[1], name == "phone")
			v.do("open", chromedp.Navigate(base))
			v.until("empty", "document.querySelector('#empty-title').textContent === 'No categories yet'")
			v.picture("empty")
			v.signUp("ann")
			v.makeCategory("Neighbours")
			v.until("nothing yet", "document.querySelector('#empty-title').textContent === 'Nothing here yet'")
			v.share(file, "Carried the shopping up five floors, and would not even take a biscuit for it")
			v.picture("share")
			v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
			v.until("it is in the feed with its picture", "document.querySelector('#acts img')?.naturalWidth === 640 && !document.querySelector('#post').open")
			v.picture("feed")
			v.do("vote", chromedp.Click(chromedp.CSS("#acts .vote")))
			v.until("at once", "document.querySelector('#acts .vote').textContent.includes('1')")
			list, err := s.store.newest(t.Context(), "Neighbours", 0, 10)
			if err != nil || len(list) != 1 || list[0].Username != "ann" || list[0].Photo.Type != "image/jpeg" || list[0].Photo.Size > 1<<20 {
				t.Fatalf("stored %+v, %v", list, err)
			}
			v.until("it lasts", fmt.Sprintf("fetch('/api/v1/categories/Neighbours/acts?images=0').then(r => r.json()).then(a => a[0].upvotes === 1 && a[0].actId === %d)", list[0].ID))
			v.do("look at it", chromedp.Click(chromedp.CSS("#acts .shot")))
			v.until("whole", "document.querySelector('#photo').open && document.querySelector('#photo-image').naturalWidth === 1600")
			v.picture("photo")
			v.do("close", chromedp.KeyEvent("\u001b"))
			v.until("closed, and the focus is back", "!document.querySelector('#photo').open && document.activeElement.classList.contains('shot')")
			if wide := value[int](v, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
				t.Errorf("%d pixels stick out at the side", wide)
			}
			v.do("delete it", chromedp.Click(chromedp.CSS("#acts .remove")))
			v.until("asked", "document.querySelector('#confirm').open")
			v.picture("confirm")
			v.do("yes", chromedp.Click(chromedp.CSS("#confirm-yes")))
			v.until("gone", "document.querySelector('#empty-title').textContent === 'Nothing here yet' && !document.querySelector('#empty').hidden")
			if n, err := s.store.count(t.Context()); n != 0 || err != nil {
				t.Errorf("%d acts are left, %v", n, err)
			}
			v.do("remove the category", chromedp.Click(chromedp.CSS("#manage-open")), chromedp.Click(chromedp.CSS("#manage-list button")), chromedp.Click(chromedp.CSS("#confirm-yes")))
			v.until("none left", "document.querySelector('#empty-title').textContent === 'No categories yet'")
			v.clean()
		})
	}
}

// TestPageHash: the hash of the page is SHA-1, as the browser's own where it has one.
func TestPageHash(t *testing.T) {
	v := visit(t, browser(t), "hash", 400, 400, false)
	v.do("open", chromedp.Navigate(service(t, t.TempDir()).URL))
	for _, text := range []string{"", "abc", "ünïcödé ☺", strings.Repeat("a", 55), strings.Repeat("a", 56), strings.Repeat("a", 64), strings.Repeat("long ", 1000)} {
		equal := value[bool](v, fmt.Sprintf(`(async () => {
			const { sha1 } = await import("/assets/sha1.js");
			const real = await crypto.subtle.digest("SHA-1", new TextEncoder().encode(%[1]s));
			return sha1(%[1]s) === [...new Uint8Array(real)].map((b) => b.toString(16).padStart(2, "0")).join("");
		})()`, quoted(text)))
		if !equal {
			t.Errorf("the hash of %.20q (%d bytes) is wrong", text, len(text))
		}
	}
}

// TestPageRunsNoStrangersScript: names, captions and photos of others are text and
// pictures, whatever is in them.
func TestPageRunsNoStrangersScript(t *testing.T) {
	ctx := browser(t)
	base := service(t, t.TempDir()).URL
	evil := `"><img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload="window.hit=1">`
	svg := `<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit=1"><script>window.hit=1</script></svg>`
	post := func(path string, body any) {
		t.Helper()
		if status, answer, _ := ask(t, base, "POST", path, quoted(body)); status != 201 {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	post("/api/v1/users", map[string]string{"username": evil, "password": hash})
	post("/api/v1/categories", []string{evil})
	post("/api/v1/acts", map[string]any{"actId": 7, "username": evil, "timestamp": "28-02-2019:05-04-03", "caption": evil, "categoryName": evil, "imgB64": []byte(svg)})
	v := visit(t, ctx, "xss", 1000, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("listed", "document.querySelectorAll('#acts .card').length === 1 && document.querySelector('#acts .caption') !== null")
	if got := value[string](v, "document.querySelector('#acts .caption').textContent"); got != evil {
		t.Errorf("the caption reads %q", got)
	}
	v.do("all dialogs", chromedp.Evaluate[chromedp.Void]("localStorage.setItem('acts.user', document.querySelector('#acts .meta').textContent)"), chromedp.Click(chromedp.CSS("#acts .shot")), chromedp.KeyEvent("\u001b"), chromedp.Click(chromedp.CSS("#manage-open")), chromedp.KeyEvent("\u001b"), chromedp.Reload())
	v.until("listed again", "document.querySelector('#acts .caption') !== null")
	if got := value[string](v, "fetch('/api/v1/acts/7/image').then(r => [r.headers.get('Content-Type'), r.headers.get('Content-Disposition'), r.headers.get('X-Content-Type-Options')].join())"); got != "application/octet-stream,attachment,nosniff" {
		t.Errorf("the photo by itself comes as %s", got)
	}
	if value[bool](v, "window.hit === 1 || document.querySelector('main script, main svg, #acts [onerror]') !== null") {
		t.Error("a stranger's script ran, or could")
	}
	v.clean()
}

// trouble stands before a service and answers for it while it is told to.
type trouble struct {
	left   atomic.Int64 // answers of its own, of those that match
	status int
	only   string // method
	under  string // what the path has in it
	proxy  *httputil.ReverseProxy
}

func (x *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") && (x.only == "" || x.only == r.Method) && strings.Contains(r.URL.Path, x.under) && x.left.Add(-1) >= 0 {
		if x.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, "crashed", x.status)
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
		x.status = c.status
		x.left.Store(3)
		v.do("open", chromedp.Navigate(base))
		v.until(c.says, fmt.Sprintf("!document.querySelector('#net').hidden && document.querySelector('#net').textContent.startsWith(%s)", quoted(c.says)))
		v.picture("says-so")
		v.until("it recovers", "document.querySelector('#net').hidden && document.querySelector('#title').textContent === 'green'")
	}
	v.signUp("eve")

	// A crash in the middle of sharing: it is sent again, and stored once.
	x.only, x.status = "POST", http.StatusInternalServerError
	v.share(jpegFile(t), "held the door")
	x.left.Store(2)
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
	x.status = http.StatusInternalServerError
	v.share(jpegFile(t), "paid for two")
	x.left.Store(1 << 30)
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("told inside the dialog, where alone it is seen and read out", "document.querySelector('#post').contains(document.querySelector('#net')) && !document.querySelector('#net').hidden")
	v.until("told", "document.querySelector('#post-error').textContent.startsWith('It was not shared')")
	v.picture("not-shared")
	if got := value[string](v, "document.querySelector('#caption').value"); got != "paid for two" || value[bool](v, "document.querySelector('#preview').hidden") {
		t.Errorf("what was written is gone: %q", got)
	}
	v.clean()
}
