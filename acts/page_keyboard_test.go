package acts

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// press a key, then wait for what it does.
func (v *visitor) press(key, what, expression string) {
	v.t.Helper()
	v.do("press for: "+what, chromedp.KeyEvent(key))
	v.until(what, expression)
}

// reach an element by the tabulator alone; the focus has to be seen there.
func (v *visitor) reach(selector string) {
	v.t.Helper()
	for range 40 {
		if value[bool](v, fmt.Sprintf("document.activeElement?.matches(%s)", quoted(selector))) {
			if !value[bool](v, "(e => getComputedStyle(e).outlineStyle !== 'none')(document.activeElement.classList.contains('file') ? document.activeElement.labels[0] : document.activeElement)") {
				v.t.Errorf("the focus on %s is not seen", selector)
			}
			return
		}
		v.do("tabulator", chromedp.KeyEvent(kb.Tab))
	}
	v.t.Fatalf("the tabulator does not lead to %s; it stands at %s", selector, value[string](v, "document.activeElement?.outerHTML.slice(0, 200)"))
}

func (v *visitor) typed(text string) {
	v.t.Helper()
	command(v, input.InsertText, input.InsertTextParams{Text: text})
}

const focused = "document.activeElement.matches"

// TestPageNeedsNoPointer signs up, makes a category, shares, looks, votes, deletes and signs
// out without a pointer; the focus is never lost.
func TestPageNeedsNoPointer(t *testing.T) {
	ctx := browser(t)
	s := opened(t, Config{Data: t.TempDir()})
	v := visit(t, ctx, "no-pointer", 1000, 800, false)
	v.do("open", chromedp.Navigate(serving(t, s).URL))
	v.until("empty", "document.querySelector('#empty-title').textContent === 'No categories yet'")

	v.press(kb.Tab, "the first stop leads past the header", focused+"('.skip')")
	v.press(kb.Enter, "to the acts", focused+"('#feed')")
	v.reach("#empty-do")
	v.press(kb.Enter, "the dialog opens where one types", "document.querySelector('#manage').open && "+focused+"('#new-category')")
	v.typed("Neighbours")
	v.press(kb.Enter, "made", "document.querySelector('#title').textContent === 'Neighbours' && !document.querySelector('#manage').open")

	v.reach("#account-open")
	v.press(" ", "sign up", "document.querySelector('#account').open")
	v.reach("#username")
	v.typed("kay")
	v.reach("#password")
	v.typed("correct horse")
	v.press(kb.Enter, "signed up, and back", "!document.querySelector('#account').open && "+focused+"('#account-open')")

	v.reach("#post-open")
	v.press(kb.Enter, "the dialog opens", "document.querySelector('#post').open")
	for _, stop := range []string{"#file", "#camera", "#caption", "#category", "#post-send"} {
		v.reach(stop)
	}
	v.press(kb.Enter, "without a photo it leads there", focused+"('#file') && document.querySelector('#post-error').textContent !== ''")
	v.do("choose a photo", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{jpegFile(t)}))
	v.until("preview", previewed)
	v.until("the focus has not gone with the button", "document.querySelector('#post').contains(document.activeElement) && document.activeElement.checkVisibility()")
	v.reach("#caption")
	v.typed("held the door")
	v.reach("#post-send")
	v.press(kb.Enter, "shared, and back", "!document.querySelector('#post').open && document.querySelectorAll('#acts [data-act]').length === 1 && "+focused+"('#post-open')")

	v.reach("#categories button")
	v.press(kb.Enter, "the category again, the focus stays", "document.querySelector('#acts').getAttribute('aria-busy') === 'false' && document.querySelectorAll('#acts [data-act]').length === 1 && "+focused+"('#categories button[aria-current]')")
	v.reach("#acts .shot")
	v.press(kb.Enter, "whole", "document.querySelector('#photo').open")
	v.press(kb.Escape, "closed, and back", "!document.querySelector('#photo').open && "+focused+"('.shot')")
	v.reach("#acts .vote")
	v.press(" ", "voted, the focus stays", "document.querySelector('#acts .vote').textContent.includes('1') && "+focused+"('.vote')")
	v.reach("#acts .remove")
	v.press(kb.Enter, "asked, the harmless answer first", "document.querySelector('#confirm').open && "+focused+"('#confirm-no')")
	v.press(kb.Escape, "kept", "!document.querySelector('#confirm').open && "+focused+"('.remove')")
	v.press(kb.Enter, "asked again", "document.querySelector('#confirm').open")
	v.reach("#confirm-yes")
	v.press(kb.Enter, "deleted", "!document.querySelector('#empty').hidden && "+focused+"('#feed')")
	if n, err := s.store.count(t.Context()); n != 0 || err != nil {
		t.Errorf("%d acts are left, %v", n, err)
	}
	v.clean()
}

// TestPageDeletesTheAccount when it is meant, and only then; what was shared stays.
func TestPageDeletesTheAccount(t *testing.T) {
	ctx := browser(t)
	s := opened(t, Config{Data: t.TempDir()})
	base := serving(t, s).URL
	settled(t, base)
	v := visit(t, ctx, "account", 1000, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("open", "document.querySelector('#title').textContent === 'green'")
	v.signUp("eve")
	if status, answer, _ := ask(t, base, "POST", "/api/v1/acts", anAct(1, map[string]any{"username": "eve"})); status != 201 {
		t.Fatal(answer)
	}
	const users = "fetch('/api/v1/users').then(r => r.json()).then(a => a.join())"
	v.do("not meant", chromedp.Click(chromedp.CSS("#account-open")), chromedp.Click(chromedp.CSS("#account-remove")), chromedp.Click(chromedp.CSS("#confirm-no")))
	v.until("kept", "!document.querySelector('#confirm').open && document.querySelector('#account').open && document.querySelector('#me').textContent === 'eve'")
	if got := value[string](v, users); got != "ann,eve" {
		t.Errorf("users: %s", got)
	}
	v.do("meant", chromedp.Click(chromedp.CSS("#account-remove")), chromedp.Click(chromedp.CSS("#confirm-yes")))
	v.until("told", "document.querySelector('#toast').textContent === 'Your account is deleted.' && document.querySelector('#account-open').textContent === 'Sign up' && !document.querySelector('#account').open")
	if got := value[string](v, users); got != "ann" {
		t.Errorf("users: %s", got)
	}
	v.do("again", chromedp.Reload())
	v.until("it lasts, and what was shared stays", "document.querySelectorAll('#acts [data-act]').length === 1 && document.querySelector('#account-open').textContent === 'Sign up' && !document.querySelector('#acts .remove')")
	v.clean()
}

// TestPageRemovesACategory with its acts, when it is meant; the page shows another one.
func TestPageRemovesACategory(t *testing.T) {
	v, _ := sharer(t, "category")
	const names = "fetch('/api/v1/categories').then(r => r.json()).then(o => Object.keys(o).length)"
	v.makeCategory("red / 100% 🍓?#")
	v.do("remove", chromedp.Click(chromedp.CSS("#manage-open")), chromedp.Click(chromedp.CSS("#manage-list li:last-child button")))
	v.until("asked", "document.querySelector('#confirm-title').textContent === 'Remove “red / 100% 🍓?#”?'")
	v.do("no", chromedp.Click(chromedp.CSS("#confirm-no")))
	if n := value[int](v, names); n != 2 {
		t.Errorf("%d categories", n)
	}
	v.do("yes", chromedp.Click(chromedp.CSS("#manage-list li:last-child button")), chromedp.Click(chromedp.CSS("#confirm-yes")))
	v.until("removed", "document.querySelector('#title').textContent === 'green' && document.querySelectorAll('#categories li').length === 1 && document.querySelectorAll('#manage-list li').length === 1")
	if n := value[int](v, names); n != 1 {
		t.Errorf("%d categories", n)
	}
	v.clean()
}
