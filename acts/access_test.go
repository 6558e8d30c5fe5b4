package acts

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// checks is what a person who sees little, or nothing, relies on. Each finding is a
// line. Contrast is of every text against what is behind it (WCAG 2.2: 4.5, or 3 for
// large text).
const checks = `(() => {
	const found = [];
	const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
	const where = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + " " + JSON.stringify((e.textContent || "").trim().slice(0, 30));
	const text = (id) => (document.getElementById(id)?.textContent ?? "").trim();
	const name = (e) => (e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") ?? "").split(" ").map(text).join(" ") || [...(e.labels ?? [])].map((l) => l.textContent).join(" ") || (["INPUT", "SELECT", "TEXTAREA", "PROGRESS"].includes(e.tagName) ? "" : e.textContent) || e.getAttribute("alt") || "").trim();
	for (const e of document.querySelectorAll("button, a[href], input, select, textarea, progress, dialog[open], nav")) if (seen(e) && !name(e)) found.push("no name: " + where(e));
	for (const e of document.querySelectorAll("img")) if (!e.hasAttribute("alt")) found.push("no alt: " + where(e));
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) found.push("tabindex above 0: " + where(e));
	for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) for (const k of ["aria-labelledby", "aria-describedby"]) for (const id of (e.getAttribute(k) ?? "").split(" ")) if (id && !document.getElementById(id)) found.push(k + " names nothing: " + where(e));
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push("twice: #" + id);
	if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
	for (const l of ["header", "nav", "main", "footer"]) if (!document.querySelector(l)) found.push("no " + l);
	if (!document.documentElement.lang || !document.title) found.push("no language or title");
	const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((e) => +e.tagName[1]);
	levels.forEach((l, i) => { if (i > 0 && l > levels[i - 1] + 1) found.push("a heading is skipped before h" + l); });
	for (const e of document.querySelectorAll("button, .button, input:not(.file), select, textarea")) { const r = e.getBoundingClientRect(); if (seen(e) && (r.height < 44 || r.width < 24)) found.push("too small to hit: " + where(e) + " " + r.width + "x" + r.height); }
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgba = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
	const light = ([r, g, b]) => { const f = (x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; (n = walk.nextNode());) {
		const e = n.parentElement;
		if (!n.data.trim() || !seen(e) || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(e.tagName) || e.closest("noscript, :disabled") || (document.querySelector("dialog[open]") && !e.closest("dialog[open]"))) continue;
		const s = getComputedStyle(e), a = light(rgba(s.color)), b = light(behind(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && +s.fontWeight >= 700);
		if (ratio < (large ? 3 : 4.5)) found.push("contrast " + ratio.toFixed(2) + ": " + where(e));
	}
	return found;
})()`

func (v *visitor) accessible(what string) {
	v.t.Helper()
	for _, finding := range value[[]string](v, checks) {
		v.t.Errorf("%s, %s: %s", v.name, what, finding)
	}
}

// TestPageIsAccessible in every state, by day and by night.
func TestPageIsAccessible(t *testing.T) {
	ctx := browser(t)
	for _, dark := range []bool{false, true} {
		name := map[bool]string{false: "day", true: "night"}[dark]
		t.Run(name, func(t *testing.T) {
			base := service(t, t.TempDir()).URL
			v := visit(t, ctx, name, 1100, 800, dark)
			v.do("open", chromedp.Navigate(base))
			v.until("empty", "document.querySelector('#empty-title').textContent === 'No categories yet'")
			v.accessible("empty")
			settled(t, base)
			for id := range 3 {
				if status, body, _ := ask(t, base, "POST", "/api/v1/acts", anAct(id, nil)); status != 201 {
					t.Fatal(body)
				}
			}
			v.do("again", chromedp.Evaluate[chromedp.Void]("localStorage.setItem('acts.user', 'ann')"), chromedp.Reload())
			v.until("feed", "document.querySelectorAll('#acts .card:not(.ghost)').length === 3")
			v.accessible("feed")
			v.picture("feed")
			for _, d := range []struct{ open, dialog string }{{"#post-open", "post"}, {"#account-open", "account"}, {"#manage-open", "manage"}, {"#acts .shot", "photo"}, {"#acts .remove", "confirm"}} {
				v.do("open "+d.dialog, chromedp.Click(chromedp.CSS(d.open)))
				v.until(d.dialog, fmt.Sprintf("document.querySelector('#%s').open", d.dialog))
				v.accessible(d.dialog)
				v.picture(d.dialog)
				v.do("Escape", chromedp.KeyEvent(kb.Escape))
				v.until("closed, the focus where it was", fmt.Sprintf("!document.querySelector('#%s').open && document.activeElement === document.querySelector('%s')", d.dialog, d.open))
			}
			v.do("sign out", chromedp.Evaluate[chromedp.Void]("localStorage.removeItem('acts.user')"), chromedp.Reload())
			v.until("feed", "document.querySelectorAll('#acts .card:not(.ghost)').length === 3")
			v.do("sign up without anything", chromedp.Click(chromedp.CSS("#account-open")), chromedp.Click(chromedp.CSS("#account-form [type=submit]")))
			v.until("told", "document.querySelector('#account-error').textContent !== ''")
			v.accessible("sign up")
			v.clean()
		})
	}
}

// TestPageByKeyboard: to vote and to share nothing else is needed.
func TestPageByKeyboard(t *testing.T) {
	ctx := browser(t)
	base := service(t, t.TempDir()).URL
	settled(t, base)
	if status, body, _ := ask(t, base, "POST", "/api/v1/acts", anAct(1, nil)); status != 201 {
		t.Fatal(body)
	}
	v := visit(t, ctx, "keyboard", 1100, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("feed", "document.querySelectorAll('#acts .vote').length === 1")
	// tab goes on until the focus is on what is wanted.
	tab := func(to string) {
		t.Helper()
		for range 40 {
			v.do("tab", chromedp.KeyEvent(kb.Tab))
			if value[bool](v, fmt.Sprintf("document.activeElement.matches(%s)", quoted(to))) {
				return
			}
		}
		t.Fatalf("the keyboard does not get to %s", to)
	}
	tab(".skip")
	v.do("skip", chromedp.KeyEvent(kb.Enter))
	tab(".vote")
	v.do("vote", chromedp.KeyEvent(" "))
	v.until("counted", "document.querySelector('.vote').textContent.includes('1')")
	v.do("sign up", chromedp.Focus(chromedp.CSS("#account-open")), chromedp.KeyEvent(kb.Enter))
	tab("#username")
	v.do("name", chromedp.KeyEvent("kim"))
	tab("#password")
	v.do("password", chromedp.KeyEvent("secret"), chromedp.KeyEvent(kb.Enter))
	v.until("signed up", "document.querySelector('#account-open').textContent === 'kim'")
	v.do("share", chromedp.Focus(chromedp.CSS("#post-open")), chromedp.KeyEvent(kb.Enter))
	v.until("open", "document.querySelector('#post').open")
	tab("#file")
	v.do("a photo", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{jpegFile(t)}))
	v.until("preview", "!document.querySelector('#preview').hidden")
	tab("#caption")
	v.do("words", chromedp.KeyEvent("by keyboard"))
	tab("#post-send")
	v.do("send", chromedp.KeyEvent(kb.Enter))
	v.until("shared", "document.querySelectorAll('#acts .card').length === 2")
	v.clean()
}
