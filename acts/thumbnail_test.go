package acts

import (
	"encoding/base64"
	"fmt"
	"image"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// count is what a metric of s has come to, with such a label where one is given.
func count(t testing.TB, s *Service, name, label string) (n float64) {
	t.Helper()
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := label == ""
			for _, l := range m.GetLabel() {
				has = has || l.GetName()+"="+l.GetValue() == label
			}
			if f.GetName() == name && has {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// fetched is an answer to a GET with a header.
func fetched(t testing.TB, url, key, value string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(key, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// TestThumbnailsAreMadeOnce, however many ask for one at once, in whatever width is near,
// and where it came to nothing too; not at all for who has it.
func TestThumbnailsAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	url := serving(t, s).URL
	settled(t, url)
	whole := held(t, 800, 600, 1)
	bomb := dimensions(held(t, 16, 16, 1), 60_000, 1000, 0xc2)
	for id, photo := range [][]byte{whole, whole[:len(whole)/2], bomb, held(t, 100, 75, 1)} {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(id, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(photo)})); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	for _, x := range []struct {
		act, status, width int
		said               string
	}{{0, 200, 320, ""}, {1, 422, 0, "can not be decoded"}, {2, 422, 0, "more pixels"}, {3, 200, 100, ""}} {
		before := count(t, s, "acts_thumbnails_total", "")
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				resp, err := http.Get(fmt.Sprintf("%s/api/v1/acts/%d/image?w=%d", url, x.act, 320-i))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != x.status || !strings.Contains(string(b), x.said) {
					t.Errorf("act %d: %s, %v", x.act, resp.Status, err)
				} else if c, _, err := image.DecodeConfig(strings.NewReader(string(b))); x.status == 200 && (err != nil || c.Width != x.width) {
					t.Errorf("act %d: %d wide, %v", x.act, c.Width, err)
				}
			})
		}
		wg.Wait()
		if n := count(t, s, "acts_thumbnails_total", "") - before; n != 1 {
			t.Errorf("act %d was worked through %v times", x.act, n)
		}
	}
	fresh := opened(t, Config{Data: dir}) // with nothing in memory
	there := serving(t, fresh).URL
	for _, path := range []string{"/api/v1/acts/0/image?w=320", "/api/v1/acts/0/image"} {
		_, _, h := ask(t, url, "GET", path, "")
		tag := h.Get("ETag")
		for _, have := range []string{tag, `"other", W/` + tag} {
			if resp, b := fetched(t, there+path, "If-None-Match", have); resp.StatusCode != http.StatusNotModified || b != "" || resp.Header.Get("ETag") != tag || resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s for who has %s: %s %v", path, have, resp.Status, resp.Header)
			}
		}
		if n, kept := count(t, fresh, "acts_thumbnails_total", ""), fresh.photos.cache.order.Len(); n != 0 || kept != 0 {
			t.Errorf("%s: %v were made and %d read for who has it", path, n, kept)
		}
	}
	if resp, _ := fetched(t, there+"/api/v1/acts/0/image?w=320", "If-None-Match", `"other"`); resp.StatusCode != 200 || count(t, fresh, "acts_thumbnails_total", "") != 1 {
		t.Errorf("for who has another: %s", resp.Status)
	}
}

// TestPixelsHaveALimit when a photo is uploaded, whatever its format, and when it is given
// for its thumbnail.
func TestPixelsHaveALimit(t *testing.T) {
	url, strict := service(t, t.TempDir()).URL, serving(t, opened(t, Config{Data: t.TempDir(), Strict: true})).URL
	png := func(w, h int) string { // its head alone
		size := []byte{byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
		return "\x89PNG\r\n\x1a\n" + chunk("IHDR", string(size)+"\x08\x00\x00\x00\x00")
	}
	gif := func(w, h int) string {
		return "GIF89a" + string([]byte{byte(w), byte(w >> 8), byte(h), byte(h >> 8)}) + "\x00\x00\x00"
	}
	jpeg := func(w, h int) string { return string(dimensions(held(t, 16, 16, 1), w, h, 0xc0)) }
	webp := func(w, h int) string {
		w, h = w-1, h-1
		return "RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + string([]byte{byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16)})
	}
	for _, base := range []string{url, strict} {
		settled(t, base)
		id := 0
		post := func(what, photo string, want int, says string) {
			t.Helper()
			id++
			status, answer, _ := ask(t, base, "POST", "/api/v1/acts", anAct(id, map[string]any{"imgB64": base64.StdEncoding.EncodeToString([]byte(photo))}))
			if status != want || !strings.Contains(answer, says) {
				t.Errorf("%s: %d %s, want %d %s", what, status, answer, want, says)
			}
		}
		for what, of := range map[string]func(w, h int) string{"PNG": png, "GIF": gif, "JPEG": jpeg, "WebP": webp} {
			post(what+" of 8192 by 8192", of(8192, 8192), 201, "")
			post(what+" of a line more", of(8192, 8193), 400, "imgB64: the photo has 8192 by 8193 pixels")
			if what != "WebP" { // which has 24 bits of each
				post(what+" of the largest", of(65535, 65535), 400, "imgB64: the photo has 65535 by 65535 pixels")
			}
		}
		stub := map[bool]int{false: 201, true: 400}[base == strict]
		post("noise behind the first bytes of a JPEG", "\xff\xd8\xff"+string(noise(1, 1000)), stub, "")
		post("a GIF without a pixel", gif(0, 0), stub, "")
		post("a PNG that is cut off", png(1, 1)[:20], stub, "")
		post("a tall one", png(640, 100_000), 201, "")
		for _, w := range []int{320, 640, 2048} {
			if status, answer, _ := ask(t, base, "GET", fmt.Sprintf("/api/v1/acts/%d/image?w=%d", id, w), ""); status != 422 || !strings.Contains(answer, "more pixels") {
				t.Errorf("a tall one for %d: %d %.200q", w, status, answer)
			}
		}
	}
}
