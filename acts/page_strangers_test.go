package acts

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// evil is a text that is markup wherever somebody forgets that it is text: between tags,
// in an attribute with either quote, in a style or a script. Its mark is in all of it.
func evil(mark string) string {
	return fmt.Sprintf(`%[1]s'"></option></select></title></style></script><img class="%[1]s" src=x onerror="window.hit='%[1]s'"><script class="%[1]s">window.hit='%[1]s'</script><svg class="%[1]s" onload="window.hit='%[1]s'"></svg><a class="%[1]s" href="javascript:window.hit='%[1]s'">${window.hit='%[1]s'}`, mark)
}

// watch stands in every document before its scripts. It remembers, over a reload too,
// whichever script of a stranger ran and each element that had been made of a stranger's
// text at any time, wherever it stood.
const watch = `
const remember = (what) => sessionStorage.setItem("strange", (sessionStorage.getItem("strange") ?? "") + what + "\n");
Object.defineProperty(window, "hit", { set: (mark) => remember("a script of the " + mark + " ran") });
const strange = (e) => {
	if (e.nodeType !== 1) return;
	for (const x of [e, ...e.querySelectorAll("*")]) {
		if (/^stranger/.test(x.getAttribute("class") ?? "")) remember("the " + x.getAttribute("class") + " made <" + x.localName + "> in <" + x.parentElement?.localName + ">");
		for (const a of x.attributes) if (/^on/.test(a.name) || (["href", "src", "action"].includes(a.name) && /^\s*javascript:/i.test(a.value))) remember(x.outerHTML.slice(0, 200));
	}
};
new MutationObserver((all) => { for (const m of all) { for (const e of m.addedNodes) strange(e); if (m.type === "attributes") strange(m.target); } }).observe(document, { subtree: true, childList: true, attributes: true });
`

// unguarded passes a service's answers on without the policy that would stop a script:
// what the page itself does has to be enough.
func unguarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(policyless{w}, r) })
}

type policyless struct{ http.ResponseWriter }

func (p policyless) WriteHeader(status int) {
	p.Header().Del("Content-Security-Policy")
	p.ResponseWriter.WriteHeader(status)
}

func (p policyless) Write(b []byte) (int, error) {
	p.Header().Del("Content-Security-Policy")
	return p.ResponseWriter.Write(b)
}

// TestPageRunsNoStrangersScript: names, captions and photos of others are text and
// pictures, whatever is in them, everywhere in the document: in the feed, the navigation,
// selects and each dialog. The policy is off, so that a script that could run does.
func TestPageRunsNoStrangersScript(t *testing.T) {
	ctx := browser(t)
	base := serving(t, unguarded(opened(t, Config{Data: t.TempDir()}))).URL
	user, category, caption := evil("stranger-user"), evil("stranger-category"), evil("stranger-caption")
	svg := `<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit='stranger-photo'"><script>window.hit='stranger-photo'</script></svg>`
	post := func(path string, body any) {
		t.Helper()
		if status, answer, _ := ask(t, base, "POST", path, quoted(body)); status != 201 {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	post("/api/v1/users", map[string]string{"username": user, "password": hash})
	post("/api/v1/categories", []string{category})
	post("/api/v1/acts", map[string]any{"actId": 7, "username": user, "timestamp": "28-02-2019:05-04-03", "caption": caption, "categoryName": category, "imgB64": []byte(svg)})
	v := visit(t, ctx, "strangers", 1000, 800, false)
	command(v, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	v.do("open", chromedp.Navigate(base))
	v.until("listed", "document.querySelector('#acts .caption') !== null")
	if value[string](v, "document.documentElement.appendChild(Object.assign(document.createElement('b'), { onclick: 1, className: 'stranger-test' })).className") == "" {
		t.Fatal("no element")
	}
	v.until("the watch sees", "sessionStorage.getItem('strange')?.includes('stranger-test made <b>')")
	value[bool](v, "(document.querySelector('.stranger-test').remove(), sessionStorage.removeItem('strange'), true)")

	v.reads("#acts .caption", caption)
	v.reads("#categories .words-short", category)
	v.reads("#title", category)
	v.do("sign in as the stranger", chromedp.Click(chromedp.CSS("#account-open")), chromedp.SendKeys(chromedp.CSS("#password"), "x"), chromedp.SetValue(chromedp.CSS("#username"), user), chromedp.Click(chromedp.CSS("#account-form [type=submit]")))
	v.until("taken, it says", "!document.querySelector('#account-use').hidden")
	v.reads("#account-error", "The name "+user+" is taken.")
	v.do("it is mine", chromedp.Click(chromedp.CSS("#account-use")))
	v.until("signed in", "!document.querySelector('#account').open && document.querySelector('#acts .remove') !== null")
	v.strangersDialogs(user, category, caption)
	v.do("reload", chromedp.Reload())
	v.until("listed again", "document.querySelector('#acts .remove') !== null")
	if strange := value[string](v, "sessionStorage.getItem('strange') ?? ''"); strange != "" {
		t.Errorf("strangers' texts are more than texts:\n%s", strange)
	}
	if got := value[string](v, "fetch('/api/v1/acts/7/image').then(r => [r.headers.get('Content-Type'), r.headers.get('Content-Disposition'), r.headers.get('X-Content-Type-Options')].join())"); got != "application/octet-stream,attachment,nosniff" {
		t.Errorf("the photo by itself comes as %s", got)
	}
	v.clean()
}

// reads fails unless the element has this text and nothing but text in it.
func (v *visitor) reads(selector, want string) {
	v.t.Helper()
	if got := value[string](v, fmt.Sprintf("(e => e.firstElementChild ? 'not only text: ' + e.innerHTML : e.textContent)(document.querySelector(%s))", quoted(selector))); got != want {
		v.t.Errorf("%s reads %q", selector, got)
	}
}

// strangersDialogs opens every dialog that shows what strangers wrote.
func (v *visitor) strangersDialogs(user, category, caption string) {
	v.t.Helper()
	v.reads("#account-open", user)
	escape := chromedp.KeyEvent("\u001b")
	v.do("account", chromedp.Click(chromedp.CSS("#account-open")))
	v.reads("#me", user)
	v.do("share", escape, chromedp.Click(chromedp.CSS("#post-open")))
	v.until("open", "document.querySelector('#post').open")
	v.reads("#category option", category)
	v.do("photo", escape, chromedp.Click(chromedp.CSS("#acts .shot")))
	v.reads("#photo-caption", caption)
	if got := value[string](v, "document.querySelector('#photo-image').alt + document.querySelector('#photo-meta').textContent"); !strings.HasPrefix(got, caption+user+" · ") {
		v.t.Errorf("the photo's words are %q", got)
	}
	v.do("manage", escape, chromedp.Click(chromedp.CSS("#manage-open")))
	v.reads("#manage-list span", category)
	v.do("remove", chromedp.Click(chromedp.CSS("#manage-list button")))
	v.reads("#confirm-title", "Remove “"+category+"”?")
	v.do("no", chromedp.Click(chromedp.CSS("#confirm-no")), escape)
}

// TestPageForbidsInlineScript: the policy is the second fence.
func TestPageForbidsInlineScript(t *testing.T) {
	v := visit(t, browser(t), "policy", 400, 400, false)
	v.do("open", chromedp.Navigate(service(t, t.TempDir()).URL))
	v.until("open", "!document.querySelector('#empty').hidden")
	if value[bool](v, `(() => {
		const s = document.createElement("script");
		s.textContent = "window.hit = 1";
		document.body.append(s);
		document.body.insertAdjacentHTML("beforeend", "<button id=evil onclick='window.hit = 2'>");
		document.querySelector("#evil").click();
		return window.hit !== undefined;
	})()`) {
		t.Error("an inline script ran")
	}
}

// renamed answers as a service does in which the category green has another name, one that
// it may have had before such names were refused.
func renamed(h http.Handler, name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/categories" {
			h.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(replaced{w, []byte(`"green"`), []byte(quoted(name))}, r)
	})
}

type replaced struct {
	http.ResponseWriter
	old, new []byte
}

func (x replaced) Write(b []byte) (int, error) {
	x.Header().Del("Content-Length")
	if _, err := x.ResponseWriter.Write(bytes.ReplaceAll(b, x.old, x.new)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (x replaced) WriteHeader(status int) {
	x.Header().Del("Content-Length")
	x.ResponseWriter.WriteHeader(status)
}

// TestPageStandsOddNames: what has a meaning in addresses is a name; one that no browser
// can ask for, or that is gone, spoils only itself.
func TestPageStandsOddNames(t *testing.T) {
	ctx := browser(t)
	for _, name := range []string{"..", ".", "gone meanwhile"} {
		s := opened(t, Config{Data: t.TempDir()})
		base := serving(t, renamed(s, name)).URL
		settled(t, base)
		fill(t, base, 1, 2) // so that it is the fullest
		odd := "a/b?c#d%2e&e=f+g\\h 🍓"
		if status, answer, _ := ask(t, base, "POST", "/api/v1/categories", quoted([]string{odd})); status != 201 {
			t.Fatal(answer)
		}
		if status, answer, _ := ask(t, base, "POST", "/api/v1/acts", anAct(9, map[string]any{"categoryName": odd})); status != 201 {
			t.Fatal(answer)
		}
		v := visit(t, ctx, "odd", 1000, 800, false)
		v.do("open", chromedp.Navigate(base))
		v.until("the next one is shown instead of "+name, fmt.Sprintf("document.querySelector('#title').textContent === %s && document.querySelectorAll('#acts [data-act]').length === 1", quoted(odd)))
		v.do("open the broken one", chromedp.Click(chromedp.CSS(fmt.Sprintf("#categories [data-name=%q]", name))))
		v.until("told", fmt.Sprintf("document.querySelector('#title').textContent === %s && document.querySelector('#empty-title').textContent === 'This could not be loaded' && !document.querySelector('#empty').hidden", quoted(name)))
		v.do("and back", chromedp.Click(chromedp.CSS("#categories [data-name^='a/b']")))
		v.until("shown, under its own address", fmt.Sprintf("document.querySelectorAll('#acts [data-act]').length === 1 && location.hash === '#/c/' + encodeURIComponent(%s)", quoted(odd)))
		v.do("again", chromedp.Reload())
		v.until("the address leads there", fmt.Sprintf("document.querySelector('#title').textContent === %s && document.querySelectorAll('#acts [data-act]').length === 1", quoted(odd)))
		v.clean()
	}
}

// TestPageWithoutStorage: a browser that keeps no site's data throws at the first touch.
func TestPageWithoutStorage(t *testing.T) {
	ctx := browser(t)
	base := service(t, t.TempDir()).URL
	settled(t, base)
	v := visit(t, ctx, "storage", 1000, 800, false)
	command(v, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied', 'SecurityError') } })"})
	v.do("open", chromedp.Navigate(base))
	v.until("open", "document.querySelector('#title').textContent === 'green' && !document.querySelector('#empty').hidden")
	v.signUp("eve")
	v.share(jpegFile(t), "held the door")
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("shared, and one's own", "document.querySelectorAll('#acts .remove').length === 1")
	v.do("sign out", chromedp.Click(chromedp.CSS("#account-open")), chromedp.Click(chromedp.CSS("#account-forget")))
	v.until("signed out", "document.querySelector('#account-open').textContent === 'Sign up'")
	v.clean()
}
