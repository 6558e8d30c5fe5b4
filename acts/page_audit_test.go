package acts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
)

// auditor looks at what is on screen (the open dialog, or all of it) and returns its
// faults: contrast (WCAG 2.2: 1.4.3, 1.4.11), sizes of what is touched (2.5.5, 44 px),
// focus that is seen (2.4.7), labels, headings, ids, and what sticks out.
const auditor = `(() => {
const faults = [];
const root = [...document.querySelectorAll("dialog[open]")].pop() ?? document.body;
const name = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : e.className ? "." + e.className : "") + " “" + (e.textContent.trim() || e.getAttribute("aria-label") || "").slice(0, 30) + "”";
const fault = (e, text) => faults.push(name(e) + ": " + text);
const rgba = (text) => {
	const m = /^rgba?\((\d+), (\d+), (\d+)(?:, ([\d.]+))?\)$/.exec(text);
	if (!m) throw new Error("no colour: " + text);
	return [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]];
};
const over = (a, b) => a.slice(0, 3).map((x, i) => x * a[3] + b[i] * (1 - a[3])).concat(1);
const behind = (e) => {
	const layers = [];
	for (let x = e; x; x = x.parentElement) {
		const c = rgba(getComputedStyle(x).backgroundColor);
		if (c[3] > 0) layers.push(c);
		if (c[3] === 1) break;
	}
	return layers.reduceRight((under, c) => over(c, under), [255, 255, 255, 1]);
};
const shine = (c) => c.slice(0, 3).map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => { const [x, y] = [shine(over(a, b)), shine(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const opacity = (e) => { let o = 1; for (let x = e; x; x = x.parentElement) o *= +getComputedStyle(x).opacity; return o; };
const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 1 && opacity(e) > 0;
const atLeast = (e, what, colour, ground, least) => {
	const c = [...rgba(colour)];
	c[3] *= opacity(e);
	const r = contrast(c, ground);
	if (r < least) fault(e, what + " has a contrast of " + r.toFixed(2) + ", at least " + least);
};

const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
for (let n = texts.nextNode(); n; n = texts.nextNode()) {
	const e = n.parentElement;
	if (!n.data.trim() || !seen(e) || e.closest(":disabled") || ["SCRIPT", "STYLE", "OPTION", "NOSCRIPT"].includes(e.tagName)) continue;
	const s = getComputedStyle(e);
	const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && +s.fontWeight >= 700);
	atLeast(e, "its text", s.color, behind(e), large ? 3 : 4.5);
	if (parseFloat(s.fontSize) < 12) fault(e, "its text is " + s.fontSize + " high");
}
for (const e of root.querySelectorAll("input, textarea, select")) {
	if (!seen(e)) continue;
	const s = getComputedStyle(e);
	atLeast(e, "what is typed", s.color, behind(e), 4.5);
	if (!e.classList.contains("file")) atLeast(e, "its border", s.borderTopColor, behind(e.parentElement), 3);
	if (e.placeholder) atLeast(e, "its placeholder", getComputedStyle(e, "::placeholder").color, behind(e), 4.5);
	if (!e.labels?.length && !e.getAttribute("aria-label")) fault(e, "it has no label");
	if (parseFloat(s.fontSize) < 16) fault(e, "a phone would zoom in on it: " + s.fontSize);
}
const before = document.activeElement;
for (const e of root.querySelectorAll("a[href], button, input, textarea, select")) {
	const file = e.classList.contains("file");
	if (e.disabled || (!file && !seen(e)) || !e.checkVisibility()) continue;
	const shown = file ? e.labels[0] : e;
	document.activeElement?.blur();
	e.focus({ focusVisible: true });
	if (document.activeElement !== e) fault(e, "it takes no focus");
	const s = getComputedStyle(shown);
	if (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) fault(e, "its focus is not seen");
	else atLeast(shown, "its focus ring", s.outlineColor, behind(parseFloat(s.outlineOffset) < 0 ? shown : shown.parentElement), 3);
	const box = shown.getBoundingClientRect();
	if (!e.closest("p a, .skip") && (box.width < 43.9 || box.height < 43.9)) fault(e, "too small for a finger: " + box.width.toFixed() + " × " + box.height.toFixed());
	if (e.tabIndex > 0) fault(e, "it jumps the queue");
}
before?.focus({ preventScroll: true });
const levels = [...root.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((h) => +h.tagName[1]);
levels.forEach((l, i) => { if (i > 0 && l > levels[i - 1] + 1) faults.push("a heading of level " + l + " follows one of level " + levels[i - 1]); });
if (root === document.body && (levels[0] !== 1 || document.querySelectorAll("h1").length !== 1)) faults.push("not one h1 in front");
if (root !== document.body && !document.getElementById(root.getAttribute("aria-labelledby"))?.textContent.trim()) fault(root, "the dialog has no name");
if (root !== document.body && !root.contains(document.activeElement)) fault(root, "the focus is outside of it");
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("twice: #" + id);
for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) for (const a of ["aria-labelledby", "aria-describedby"]) if (e.hasAttribute(a) && !document.getElementById(e.getAttribute(a))) fault(e, a + " leads nowhere");
for (const e of document.querySelectorAll("img:not([alt])")) fault(e, "no alt");
for (const l of ["main", "header", "nav[aria-label]", "footer"]) if (document.querySelectorAll("body > " + l).length !== 1) faults.push("not one landmark " + l);
if (!document.documentElement.lang || !document.title) faults.push("no language, or no title");
for (const e of [document.documentElement, root]) if (e.scrollWidth > e.clientWidth) fault(e, (e.scrollWidth - e.clientWidth) + " pixels stick out at the side");
return faults;
})()`

// named are roles that say nothing without a name.
var named = []string{"button", "link", "textbox", "combobox", "dialog", "alertdialog", "navigation", "image", "progressbar", "heading", "option"}

// audit fails for what is on screen; a picture of it is kept.
func (v *visitor) audit(what string) {
	v.t.Helper()
	v.picture(what)
	for _, fault := range value[[]string](v, auditor) {
		v.t.Errorf("%s, %s: %s", v.name, what, fault)
	}
	for _, fault := range v.nameless() {
		v.t.Errorf("%s, %s: %s", v.name, what, fault)
	}
}

// nameless asks the browser's own accessibility tree.
func (v *visitor) nameless() (faults []string) {
	v.t.Helper()
	roles := map[string]int{}
	for _, n := range command(v, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		roles[role]++
		if slices.Contains(named, role) && (n.Name == nil || strings.TrimSpace(strings.Trim(string(n.Name.Value), `"`)) == "") {
			faults = append(faults, fmt.Sprintf("a %s has no name (node %d)", role, n.BackendDOMNodeID))
		}
	}
	if roles["button"] == 0 || roles["RootWebArea"] != 1 {
		faults = append(faults, fmt.Sprintf("an odd tree: %v", roles))
	}
	return faults
}

// TestPageLooks audits each state of the page, on a phone and on a desk, by daylight and
// by night.
func TestPageLooks(t *testing.T) {
	ctx := browser(t)
	file := jpegFile(t)
	for _, c := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true}, {"desktop-light", 1280, 800, false}, {"desktop-dark", 1280, 800, true}} {
		t.Run(c.name, func(t *testing.T) {
			x, base := troubled(t)
			v := visit(t, ctx, "looks-"+c.name, c.width, c.height, c.dark)
			v.do("open", chromedp.Navigate(base))
			v.until("empty", "document.querySelector('#empty-title').textContent === 'No categories yet'")
			v.audit("empty")
			v.do("sign up", chromedp.Click(chromedp.CSS("#account-open")))
			v.audit("sign-up")
			v.do("without a name", chromedp.Click(chromedp.CSS("#account-form [type=submit]")))
			v.audit("sign-up-refused")
			v.do("close", chromedp.KeyEvent("\u001b"))
			lived(t, base, file)
			v.do("again", chromedp.Reload())
			v.until("a feed", "[...document.querySelectorAll('#acts img')].slice(0, 2).every(i => i.naturalWidth === 640) && document.querySelectorAll('#acts [data-act]').length === 6")
			v.audit("feed")
			if shift := value[float64](v, "new Promise(done => new PerformanceObserver(l => done(l.getEntries().reduce((sum, e) => sum + e.value, 0))).observe({ type: 'layout-shift', buffered: true }) ?? setTimeout(() => done(0), 300))"); shift > 0.05 {
				t.Errorf("the layout shifts by %.3f while it loads", shift)
			}
			v.signUp("ann of Green Gables")
			v.dialogs(file)
			if c.dark == (c.width > 1000) { // each width and each scheme once: a page takes its time to give up
				v.troubles(x, base)
			}
			v.clean()
		})
	}
}

// dialogs audits each of them.
func (v *visitor) dialogs(file string) {
	v.t.Helper()
	close := chromedp.KeyEvent("\u001b")
	v.do("share", chromedp.Click(chromedp.CSS("#post-open")))
	v.audit("share-empty")
	v.do("without a photo", chromedp.Click(chromedp.CSS("#post-send")))
	v.audit("share-refused")
	v.do("choose a photo", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	v.until("preview", "document.querySelector('#preview').naturalWidth === 1600")
	v.do("write", chromedp.SendKeys(chromedp.CSS("#caption"), "Carried the shopping up five floors"))
	v.audit("share-preview")
	v.do("send", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("shared", "!document.querySelector('#post').open && document.querySelector('#acts img')?.naturalWidth === 640")
	v.audit("shared")
	v.do("look", chromedp.Click(chromedp.CSS("#acts .shot")))
	v.until("whole", "document.querySelector('#photo-image').naturalWidth === 1600")
	v.audit("photo")
	v.do("categories", close, chromedp.Click(chromedp.CSS("#manage-open")))
	v.audit("categories")
	v.do("remove", chromedp.Click(chromedp.CSS("#manage-list button")))
	v.audit("confirm")
	v.do("account", chromedp.Click(chromedp.CSS("#confirm-no")), close, chromedp.Click(chromedp.CSS("#account-open")))
	v.audit("account")
	v.do("close", close)
}

// troubles audits what is said when the service is overloaded, while it loads and after
// it has been given up.
func (v *visitor) troubles(x *trouble, base string) {
	v.t.Helper()
	x.answers(1<<30, &fault{status: 503})
	v.do("vote", chromedp.Click(chromedp.CSS("#acts .vote")))
	v.until("told", "!document.querySelector('#net').hidden")
	v.audit("overloaded")
	v.do("load", chromedp.Reload())
	v.until("told", "!document.querySelector('#net').hidden")
	v.audit("overloaded-loading")
	v.until("given up", "!document.querySelector('#empty').hidden")
	v.audit("given-up")
	x.answers(0, &fault{})
	v.do("again", chromedp.Click(chromedp.CSS("#empty-do")))
	v.until("a feed", "document.querySelectorAll('#acts [data-act]').length === 7")
}
