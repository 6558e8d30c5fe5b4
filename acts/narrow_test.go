package acts

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"testing"
)

// TestThumbnailsOfNarrowPhotos, and of those that a camera has turned into such: they are
// given as they are, and no thumbnail is larger than its photo, nor than there is memory.
func TestThumbnailsOfNarrowPhotos(t *testing.T) {
	grey := func(w, h, o int) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, w, h)), nil); err != nil {
			t.Fatal(err)
		}
		whole := held(t, 8, 8, o) // what is said of how it was held
		return append(whole[:2+36:2+36], b.Bytes()[2:]...)
	}
	var part bytes.Buffer // its first picture is a part of it
	if err := gif.EncodeAll(&part, &gif.GIF{Image: []*image.Paletted{image.NewPaletted(image.Rect(7, 0, 8, 4000), color.Palette{color.Black})},
		Delay: []int{0}, Config: image.Config{Width: 4000, Height: 4000}}); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		whole  []byte
		w      int
		format string // empty: the whole photo
		size   image.Point
		err    error
	}{
		"on its side, then one wide":   {grey(60000, 1, 6), 640, "", image.Point{}, nil},
		"on its side, then as wide":    {grey(300, 64, 8), 64, "", image.Point{}, nil},
		"on its side, then wider":      {grey(40, 300, 6), 64, "jpeg", image.Pt(64, 8), nil},
		"upright and one wide":         {grey(1, 60000, 1), 640, "", image.Point{}, nil},
		"one high":                     {grey(60000, 1, 1), 640, "jpeg", image.Pt(640, 1), nil},
		"on its side, then one high":   {grey(1, 60000, 5), 640, "jpeg", image.Pt(640, 1), nil},
		"on its side, then very high":  {grey(60000, 17, 6), 16, "jpeg", image.Pt(16, 60000*16/17), nil},
		"cheap, but its thumbnail not": {grey(65000, 500, 6), 480, "", image.Point{}, errTooManyPixels}, // 33 MB, and 120
		"higher than a JPEG can be":    {blank(t, 20, 100_000, toPNG), 16, "png", image.Pt(16, 80_000), nil},
		"a part of a GIF":              {part.Bytes(), 640, "", image.Point{}, nil},
	} {
		body, err := shrink(x.whole, x.w)
		if !errors.Is(err, x.err) {
			t.Errorf("%s: %v, want %v", name, err, x.err)
		}
		if err != nil || x.err != nil {
			continue
		}
		if x.format == "" {
			if body != nil {
				t.Errorf("%s: it is not given as it is", name)
			}
			continue
		}
		if c, format, err := image.DecodeConfig(bytes.NewReader(body)); err != nil || format != x.format || image.Pt(c.Width, c.Height) != x.size {
			t.Errorf("%s: %s of %dx%d, %v; want %s of %v", name, format, c.Width, c.Height, err, x.format, x.size)
		}
	}
}
