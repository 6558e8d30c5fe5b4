package acts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

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
