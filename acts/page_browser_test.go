package acts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
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

// command of the browser's protocol, to this tab.
func command[P, R any](v *visitor, c cdp.Command[P, R], p P) (r R) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, c, p)
	if err != nil {
		v.t.Fatalf("%s: %s: %v", v.name, c.Method, err)
	}
	return r
}

// lived has people, categories and acts, as a place that people use.
func lived(t *testing.T, base, file string) {
	t.Helper()
	photo, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	must := func(path string, body any) {
		t.Helper()
		if status, answer, _ := ask(t, base, "POST", path, quoted(body)); status != 201 {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	for _, name := range []string{"ann", "Bartholomew of the Third Floor"} {
		must("/api/v1/users", map[string]string{"username": name, "password": hash})
	}
	for _, name := range []string{"Neighbours", "On the road", "At school", "Animals and those who look after them"} {
		must("/api/v1/categories", []string{name})
	}
	now := time.Now()
	for i, caption := range []string{"Held the door for the whole queue", "", "Carried a pram down the stairs of the station, went back up for the other child, and missed the train", "Walked the dog of a neighbour who is ill", "Gave up the seat", "Found a purse and brought it back"} {
		who := []string{"ann", "Bartholomew of the Third Floor"}[i%2]
		must("/api/v1/acts", map[string]any{"actId": i + 1, "username": who, "timestamp": now.Add(-time.Duration(i) * 7 * time.Hour).Format(timeLayout), "caption": caption, "categoryName": "Neighbours", "imgB64": photo})
	}
}
