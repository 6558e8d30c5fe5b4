package acts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// sharer has signed up and sees the empty category green.
func sharer(t *testing.T, name string) (*visitor, *Service) {
	t.Helper()
	ctx := browser(t)
	s := opened(t, Config{Data: t.TempDir()})
	base := serving(t, s).URL
	settled(t, base)
	v := visit(t, ctx, name, 1000, 800, false)
	v.do("open", chromedp.Navigate(base))
	v.until("open", "document.querySelector('#title').textContent === 'green' && !document.querySelector('#empty').hidden")
	v.signUp("eve")
	return v, s
}

const previewed = "document.querySelector('#post').open && !document.querySelector('#preview').hidden && document.querySelector('#preview').naturalWidth === 1600"

// sent shares what the dialog shows, and waits for it in the feed.
func (v *visitor) sent(caption string) {
	v.t.Helper()
	v.do("write and share", chromedp.SendKeys(chromedp.CSS("#caption"), caption), chromedp.Click(chromedp.CSS("#post-send")))
	v.until("it is in the feed with its picture", fmt.Sprintf("!document.querySelector('#post').open && document.querySelector('#acts .caption')?.textContent === %s && document.querySelector('#acts img').naturalWidth === 640", quoted(caption)))
}

// drop lets go of a file at a place, as a hand with a mouse does.
func (v *visitor) drop(file string, x, y float64) {
	v.t.Helper()
	data := &input.DragData{Items: []*input.DragDataItem{}, Files: []string{file}, DragOperationsMask: 1}
	for _, kind := range []string{"dragEnter", "dragOver", "drop"} {
		command(v, input.DispatchDragEvent, input.DispatchDragEventParams{Type: input.DispatchDragEventType(kind), X: x, Y: y, Data: data})
	}
}

// TestPageTakesPhotosByDrop, wherever they are let go of: on the dialog, or on the page
// without one.
func TestPageTakesPhotosByDrop(t *testing.T) {
	v, s := sharer(t, "drop")
	file := jpegFile(t)
	v.do("open the dialog", chromedp.Click(chromedp.CSS("#post-open")))
	at := value[[]float64](v, "(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector('#drop').getBoundingClientRect())")
	v.drop(file, at[0], at[1])
	v.until("preview", previewed)
	v.sent("let go of in the dialog")
	v.drop(file, 500, 500)
	v.until("the dialog opens with it", previewed)
	v.sent("let go of on the page")
	if n, err := s.store.count(t.Context()); n != 2 || err != nil {
		t.Errorf("%d are stored, %v", n, err)
	}
	v.clean()
}

// TestPageTakesPhotosByPaste from the real clipboard; without a name yet the picture waits
// for one.
func TestPageTakesPhotosByPaste(t *testing.T) {
	v, s := sharer(t, "paste")
	v.do("sign out", chromedp.Click(chromedp.CSS("#account-open")), chromedp.Click(chromedp.CSS("#account-forget")))
	for _, p := range []string{"clipboard-read", "clipboard-write"} {
		command(v, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{Permission: &cdpbrowser.PermissionDescriptor{Name: p}, Setting: cdpbrowser.PermissionSettingGranted})
	}
	value[bool](v, `(async () => {
		const c = new OffscreenCanvas(2400, 1800);
		c.getContext("2d").fillRect(100, 100, 900, 900);
		await navigator.clipboard.write([new ClipboardItem({ "image/png": await c.convertToBlob() })]);
		return true;
	})()`)
	command(v, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "keyDown", Key: "v", Code: "KeyV", WindowsVirtualKeyCode: 86, Modifiers: 2, Commands: []string{"paste"}})
	v.until("asked who it is from", "document.querySelector('#account').open")
	v.do("sign up", chromedp.SendKeys(chromedp.CSS("#username"), "pat"), chromedp.SendKeys(chromedp.CSS("#password"), "correct horse"), chromedp.Click(chromedp.CSS("#account-form [type=submit]")))
	v.until("preview", previewed)
	v.sent("pasted")
	if list, err := s.store.newest(t.Context(), "green", 0, 10); err != nil || len(list) != 1 || list[0].Username != "pat" || list[0].Photo.Type != "image/jpeg" {
		t.Errorf("stored %+v, %v", list, err)
	}
	v.clean()
}

// TestPageTakesPhotosByCamera: the second button asks a phone for its camera, the first
// for a file.
func TestPageTakesPhotosByCamera(t *testing.T) {
	v, _ := sharer(t, "camera")
	command(v, page.SetInterceptFileChooserDialog, page.SetInterceptFileChooserDialogParams{Enabled: true})
	v.do("open the dialog", chromedp.Click(chromedp.CSS("#post-open")))
	value[bool](v, "(window.asked = [], addEventListener('click', (e) => { if (e.target.type === 'file') asked.push([e.target.id, e.target.accept, e.target.getAttribute('capture')].join()) }, true), true)")
	for n, label := range []string{"camera", "file"} {
		v.do(label, chromedp.Click(chromedp.CSS("label[for="+label+"]")))
		v.until("asked", fmt.Sprintf("asked.length === %d", n+1))
	}
	if got := value[[]string](v, "asked"); !slices.Equal(got, []string{"camera,image/*,environment", "file,image/*,"}) {
		t.Errorf("the buttons ask for %q", got)
	}
	v.do("take it", chromedp.SetUploadFiles(chromedp.CSS("#camera"), []string{jpegFile(t)}))
	v.until("preview", previewed)
	v.sent("taken")
	v.clean()
}

// TestPageShowsHowFarTheUploadIs, over a slow line: the bar moves on, and is seen.
func TestPageShowsHowFarTheUploadIs(t *testing.T) {
	v, _ := sharer(t, "progress")
	command(v, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{{URLPattern: "", DownloadThroughput: -1, UploadThroughput: 60_000}}})
	v.do("open the dialog", chromedp.Click(chromedp.CSS("#post-open")))
	value[bool](v, `(() => {
		window.told = [];
		const bar = document.querySelector("#progress");
		new MutationObserver(() => {
			if (bar.checkVisibility()) told.push([bar.value, document.querySelector("#progress-label").textContent, document.querySelector("#post-send").disabled]);
		}).observe(document.querySelector("#sending"), { subtree: true, childList: true, attributes: true, characterData: true });
		return true;
	})()`)
	v.do("choose a photo", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{jpegFile(t)}))
	v.until("preview", previewed)
	v.do("share", chromedp.Click(chromedp.CSS("#post-send")))
	v.until("on its way", "told.some(([n]) => n > 0 && n < 100)")
	v.picture("on-its-way")
	v.until("shared", "!document.querySelector('#post').open && document.querySelectorAll('#acts [data-act]').length === 1")
	told := value[[][]any](v, "told")
	var steps []float64
	for _, step := range told {
		n, label := step[0].(float64), step[1].(string)
		if want := fmt.Sprintf("Sending, %v%%", n); n < 100 && label != want || step[2] != true {
			t.Errorf("at %v%% it says %q; the button is disabled: %v", n, label, step[2])
		}
		steps = append(steps, n)
	}
	if steps = slices.Compact(steps); len(steps) < 4 || !slices.IsSorted(steps) || steps[0] != 0 || steps[len(steps)-1] != 100 {
		t.Errorf("the bar went %v", steps)
	}
	if last := told[len(told)-1][1]; !strings.HasPrefix(fmt.Sprint(last), "Sent") {
		t.Errorf("the last word was %q", last)
	}
	if value[bool](v, "document.querySelector('#sending').checkVisibility() || document.querySelector('#post-send').disabled") {
		t.Error("the bar stays")
	}
	v.clean()
}
