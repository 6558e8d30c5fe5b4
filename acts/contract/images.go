package contract

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net/http"
	"strings"
)

// picture is a JPEG of w by h pixels.
func picture(w, h int) []byte {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x ^ y), 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// bomb is a GIF of a few bytes that claims 65535 by 65535 pixels.
const bomb = "GIF89a\xff\xff\xff\xff\x00\x00\x00"

// images are served as they came, in parts, once, and smaller.
func images(c *client) {
	u, g := c.user("ann"), c.category("green")
	photo := picture(800, 600)
	id, none := c.id(), c.id()
	c.walk([]step{
		{"POST", "/api/v1/acts", act(id, u, g, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(photo)}), 201, "{}"},
	})
	path := fmt.Sprintf("/api/v1/acts/%d/image", id)
	whole := c.ask("GET", path, "")
	if whole.status != 200 || whole.body != string(bytes.TrimSpace(photo)) || whole.header.Get("Content-Type") != "image/jpeg" || whole.header.Get("X-Content-Type-Options") != "nosniff" {
		c.t.Errorf("GET %s: %d, %d bytes of %d, %v", path, whole.status, len(whole.body), len(photo), whole.header)
	}
	tag := whole.header.Get("ETag")
	if a := c.send("GET", path, "", http.Header{"If-None-Match": {tag}}); tag == "" || a.status != http.StatusNotModified {
		c.t.Errorf("If-None-Match %q: %d", tag, a.status)
	}
	if a := c.send("GET", path, "", http.Header{"Range": {"bytes=0-9"}}); a.status != http.StatusPartialContent || len(a.body) > 10 || !bytes.HasPrefix(photo, []byte(a.body)) {
		c.t.Errorf("Range: %d, %d bytes", a.status, len(a.body))
	}
	if a := c.send("GET", path, "", http.Header{"Range": {"bytes=99999999-"}}); a.status != http.StatusRequestedRangeNotSatisfiable || !strings.Contains(message(a), "Range") || a.header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(photo)) {
		c.t.Errorf("a range beyond the end: %d %s, %v", a.status, a.body, a.header)
	}
	if a := c.send("GET", path, "", http.Header{"If-Match": {`"another"`}}); a.status != http.StatusPreconditionFailed || !strings.Contains(message(a), "If-Match") {
		c.t.Errorf("If-Match of another: %d %s", a.status, a.body)
	}
	if got := whole.header.Get("Cache-Control"); got != "no-cache" { // another photo may have its number by then
		c.t.Errorf("Cache-Control %q", got)
	}
	if a := c.ask("HEAD", path, ""); a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(photo)) {
		c.t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	small := c.ask("GET", path+"?w=320", "")
	m, _, err := image.Decode(strings.NewReader(small.body))
	if small.status != 200 || err != nil || m.Bounds().Dx() != 320 || m.Bounds().Dy() != 240 || small.header.Get("ETag") == tag {
		c.t.Errorf("w=320: %d, %v, %v, %v", small.status, small.header, err, m)
	}
	c.walk([]step{
		{"GET", fmt.Sprintf("/api/v1/acts/%d/image", none), "", 404, "actId"},
		{"GET", "/api/v1/acts/x/image", "", 400, "actId"},
		{"GET", path + "?w=x", "", 400, "w"},
		{"GET", path + "?w=0", "", 400, "w"},
		{"GET", path + "?w=100000", "", 400, "w"},
		{"GET", path + "?w=%zz", "", 400, "query"},
		{"DELETE", path, "", 405, "DELETE"},
	})
	upload := func(id int64, photo []byte, status int, want string) step {
		return step{"POST", "/api/v1/acts", act(id, u, g, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(photo)}), status, want}
	}
	broken, stub := c.id(), upload(c.id(), photo[:20], 201, "{}") // the one has a head and no end, the other not even a head
	if c.o.Strict {
		stub.status, stub.want = 400, "imgB64"
	}
	c.walk([]step{
		stub,
		upload(broken, photo[:len(photo)/2], 201, "{}"),
		{"GET", fmt.Sprintf("/api/v1/acts/%d/image?w=320", broken), "", 422, "can not be decoded"},
		upload(c.id(), []byte(bomb), 400, "imgB64"),
	})
	if c.o.Strict {
		return
	}
	// What is no image is kept, and given out as nothing that a browser would run.
	evil := `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	c.walk([]step{{"POST", "/api/v1/acts", act(none, u, g, map[string]any{"imgB64": base64.StdEncoding.EncodeToString([]byte(evil))}), 201, "{}"}})
	a := c.ask("GET", fmt.Sprintf("/api/v1/acts/%d/image", none), "")
	if a.status != 200 || a.body != evil || strings.Contains(a.header.Get("Content-Type"), "svg") || strings.Contains(a.header.Get("Content-Type"), "html") || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") {
		c.t.Errorf("an SVG: %d %v", a.status, a.header)
	}
}
