package acts

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"strings"
	"testing"
)

// held is a JPEG that is red in its left upper corner as it stands, with what a camera
// says of how it was held.
func held(t testing.TB, w, h, o int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{0, 0, 255, 255})
			if x < w/2 && y < h/2 {
				m.Set(x, y, color.RGBA{255, 0, 0, 255})
			}
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	exif := []byte("\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00")
	exif[4+6+8+2+9] = byte(o)
	return append(append([]byte("\xff\xd8"), exif...), b.Bytes()[2:]...)
}

// TestThumbnailsStandUpright however the camera was held.
func TestThumbnailsStandUpright(t *testing.T) {
	for o, corner := range map[int]string{1: "left top", 2: "right top", 3: "right bottom", 4: "left bottom", 5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"} {
		whole := held(t, 80, 60, o)
		if got := orientation(whole); got != o {
			t.Errorf("orientation %d, want %d", got, o)
		}
		body, err := shrink(whole, 32)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := image.Decode(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b := m.Bounds()
		if tall := b.Dy() > b.Dx(); b.Dx() != 32 || tall != (o >= 5) {
			t.Errorf("orientation %d: %v", o, b)
		}
		x, y := map[byte]int{'l': b.Dx() / 8, 'r': b.Dx() * 7 / 8}, map[bool]int{true: b.Dy() / 8, false: b.Dy() * 7 / 8}
		at := m.At(x[corner[0]], y[corner[len(corner)-3:] == "top"])
		if r, _, blue, _ := at.RGBA(); r < blue {
			t.Errorf("orientation %d: %v at the %s, want red", o, at, corner)
		}
	}
}

// blank encodes one colour over w by h pixels: small as a file, however large.
func blank(t testing.TB, w, h int, encode func(*bytes.Buffer, image.Image) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black})); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func toPNG(b *bytes.Buffer, m image.Image) error { return png.Encode(b, m) }

// TestBombsAreNotDecoded: what would cost too much is refused by its header.
func TestBombsAreNotDecoded(t *testing.T) {
	toGIF := func(b *bytes.Buffer, m image.Image) error { return gif.Encode(b, m, nil) }
	for name, whole := range map[string][]byte{
		"gif":       blank(t, 12000, 12000, toGIF),
		"png":       blank(t, 12000, 12000, toPNG),
		"jpeg":      dimensions(held(t, 16, 16, 1), math.MaxUint16, math.MaxUint16, 0xc0),
		"jpeg tall": dimensions(held(t, 16, 16, 1), 100, math.MaxUint16, 0xc2),
	} {
		if name == "jpeg tall" { // the same size is fine where it is not progressive
			if _, err := shrink(dimensions(held(t, 16, 16, 1), 100, math.MaxUint16, 0xc0), 32); errors.Is(err, errTooManyPixels) {
				t.Error("baseline: refused")
			}
			whole = dimensions(held(t, 16, 16, 1), 300, math.MaxUint16, 0xc2)
		}
		if _, err := shrink(whole, 32); !errors.Is(err, errTooManyPixels) {
			t.Errorf("%s of %d bytes: %v", name, len(whole), err)
		}
	}
}

// TestScansHaveALimit: each costs a walk through all blocks of a progressive JPEG.
func TestScansHaveALimit(t *testing.T) {
	const side = 64
	quant, code := "\xff\xdb\x00\x43\x00"+strings.Repeat("\x01", 64), "\xff\xc4\x00\x14\x00\x01"+strings.Repeat("\x00", 16)
	frame := string(framed(quant+code, 0xc2, side, side, "\x01\x11"))
	frame = frame[:strings.LastIndex(frame, "\xff\xda")]
	scan := "\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + strings.Repeat("\x00", side*side/64/8) // a bit for each block: as grey as the one before
	for n, want := range map[int]error{10: nil, maxScans: nil, maxScans + 1: errTooManyScans, 100_000: errTooManyScans} {
		if body, err := shrink([]byte(frame+strings.Repeat(scan, n)+"\xff\xd9"), side/2); !errors.Is(err, want) || (body == nil) != (want != nil) {
			t.Errorf("%d scans: %d bytes, %v, want %v", n, len(body), err, want)
		}
	}
}

// dimensions rewrites the size that a JPEG claims, and how it is coded.
func dimensions(whole []byte, w, h int, marker byte) []byte {
	at := bytes.Index(whole, []byte{0xff, 0xc0})
	whole[at+1] = marker
	whole[at+5], whole[at+6], whole[at+7], whole[at+8] = byte(h>>8), byte(h), byte(w>>8), byte(w)
	return whole
}

// FuzzShrink: no photo breaks it, and what comes out is an image.
func FuzzShrink(f *testing.F) {
	for o := range 9 {
		f.Add(held(f, 40, 30, o))
	}
	f.Add(blank(f, 40, 30, func(b *bytes.Buffer, m image.Image) error { return gif.Encode(b, m, nil) }))
	f.Add(blank(f, 40, 30, toPNG))
	f.Fuzz(func(t *testing.T, whole []byte) {
		orientation(whole)
		body, err := shrink(whole, 16)
		if err != nil {
			return
		}
		if body == nil { // it is given as it is
			body = whole
		}
		if _, _, err := image.DecodeConfig(bytes.NewReader(body)); err != nil {
			t.Errorf("%d bytes became what is no image: %v", len(whole), err)
		}
	})
}
