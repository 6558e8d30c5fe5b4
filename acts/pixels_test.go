package acts

import (
	"bytes"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"
)

// framed is a JPEG head: what comes before its frame, and its components as they are
// named and sampled.
func framed(before string, marker byte, w, h int, components ...string) []byte {
	b := append([]byte("\xff\xd8"+before), 0xff, marker, 0, byte(8+3*len(components)), 8, byte(h>>8), byte(h), byte(w>>8), byte(w), byte(len(components)))
	for _, c := range components {
		b = append(b, c[0], c[1], 0)
	}
	return append(b, "\xff\xda\x00\x02"...)
}

// TestJPEGCost is what Go's decoder takes, whatever stands before the frame.
func TestJPEGCost(t *testing.T) {
	const w, h = 1600, 1200
	const half, full = "\x01\x22", "\x01\x11"
	for name, x := range map[string]struct {
		whole []byte
		cost  int64
	}{
		"grey":                     {framed("", 0xc0, w, h, full), w * h},
		"half the colour":          {framed("", 0xc0, w, h, half, "\x02\x11", "\x03\x11"), w * h * 3 / 2},
		"all the colour":           {framed("", 0xc0, w, h, full, "\x02\x11", "\x03\x11"), w * h * 3},
		"progressive":              {framed("", 0xc2, w, h, full, "\x02\x11", "\x03\x11"), w * h * 15},
		"a stray byte":             {framed("\xff\xe0\x00\x02\x00", 0xc2, w, h, full, "\x02\x11", "\x03\x11"), w * h * 15},
		"stray bytes and padding":  {framed("\xff\xe0\x00\x02\x00\xff\x00\x01\xff\xd3\xff\xff\xff", 0xc2, w, h, full, "\x02\x11", "\x03\x11"), w * h * 15},
		"red, green and blue":      {framed("", 0xc0, w, h, "R\x11", "G\x11", "B\x11"), w * h * 7},
		"the same as Adobe says":   {framed("\xff\xee\x00\x0eAdobe\x00\x00\x00\x00\x00\x00\x00", 0xc0, w, h, full, "\x02\x11", "\x03\x11"), w * h * 7},
		"Adobe says it is not":     {framed("\xff\xee\x00\x0eAdobe\x00\x00\x00\x00\x00\x00\x01", 0xc0, w, h, full, "\x02\x11", "\x03\x11"), w * h * 3},
		"black beside":             {framed("", 0xc0, w, h, full, "\x02\x11", "\x03\x11", "\x04\x11"), w * h * 8},
		"a column of whole blocks": {framed("", 0xc0, 17, h, "\x01\x41", "\x02\x11", "\x03\x11"), 32 * h * 3 / 2},
	} {
		c, err := jpeg.DecodeConfig(bytes.NewReader(x.whole))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := decodedCost("jpeg", c, x.whole); got != x.cost {
			t.Errorf("%s: %d bytes, want %d", name, got, x.cost)
		}
	}
	whole := framed("\xff\xe0\x00\x02\x00", 0xc2, 3000, 2000, full, "\x02\x11", "\x03\x11") // 90 MB
	if _, err := shrink(whole, 320); !errors.Is(err, errTooManyPixels) {
		t.Errorf("a progressive one behind a stray byte: %v", err)
	}
}

// FuzzJPEGFrame: the frame whose cost is told is the one that the decoder finds.
func FuzzJPEGFrame(f *testing.F) {
	f.Add(framed("\xff\xe0\x00\x02\x00", 0xc2, 300, 200, "\x01\x22", "\x02\x11", "\x03\x11"))
	f.Add(framed("\xff\x00\x00\xff\xff\xff\xe1\x00\x04ab", 0xc1, 300, 200, "\x01\x11"))
	f.Fuzz(func(t *testing.T, whole []byte) {
		c, err := jpeg.DecodeConfig(bytes.NewReader(whole))
		if err != nil || c.Width == 0 || c.Height == 0 {
			return
		}
		var seen []image.Point
		segments(whole, func(marker byte, b []byte) {
			if marker >= 0xc0 && marker <= 0xc2 && len(b) > 4 {
				seen = append(seen, image.Pt(int(b[3])<<8|int(b[4]), int(b[1])<<8|int(b[2])))
			}
		})
		if len(seen) == 0 || seen[0] != image.Pt(c.Width, c.Height) {
			t.Errorf("the decoder sees %dx%d, we %v", c.Width, c.Height, seen)
		}
	})
}

// chunk of a PNG.
func chunk(kind, data string) string {
	sum := crc32.ChecksumIEEE([]byte(kind + data))
	return string([]byte{0, 0, 0, byte(len(data))}) + kind + data + string([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// TestPNGCost is at least what Go's decoder takes for the pixels.
func TestPNGCost(t *testing.T) {
	const w, h = 64, 48
	for name, x := range map[string]struct {
		m           image.Image
		transparent string
		interlaced  bool
		cost        int64
	}{
		"grey": {image.NewGray(image.Rect(0, 0, w, h)), "", false, 1}, "grey, one transparent": {image.NewGray(image.Rect(0, 0, w, h)), "\x00\x07", false, 4},
		"grey, one transparent, interlaced": {image.NewGray(image.Rect(0, 0, w, h)), "\x00\x07", true, 8}, "grey of 16 bits": {image.NewGray16(image.Rect(0, 0, w, h)), "", false, 2},
		"grey of 16 bits, one transparent": {image.NewGray16(image.Rect(0, 0, w, h)), "\x00\x07", false, 8}, "colour": {image.NewRGBA(image.Rect(0, 0, w, h)), "", false, 4},
		"colour of 16 bits, interlaced": {image.NewRGBA64(image.Rect(0, 0, w, h)), "", true, 16}, "palette": {image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black}), "", false, 1},
	} {
		var b bytes.Buffer
		if err := png.Encode(&b, x.m); err != nil {
			t.Fatal(err)
		}
		whole := b.String()
		head := 8 + 25 // signature, IHDR
		if x.interlaced {
			whole = whole[:8] + chunk("IHDR", whole[16:28]+"\x01") + whole[head:]
		}
		if x.transparent != "" {
			whole = whole[:head] + chunk("tRNS", x.transparent) + whole[head:]
		}
		c, err := png.DecodeConfig(bytes.NewReader([]byte(whole)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := decodedCost("png", c, []byte(whole)); got != w*h*x.cost {
			t.Errorf("%s: %d bytes a pixel, want %d", name, got/(w*h), x.cost)
		}
		if x.interlaced {
			continue // its lines are not in that order
		}
		m, err := png.Decode(bytes.NewReader([]byte(whole)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n, ok := m.(*image.NRGBA); ok && int64(len(n.Pix)) > w*h*x.cost {
			t.Errorf("%s: it took %d bytes", name, len(n.Pix))
		}
	}
}
