package acts

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
)

// segments visits the headers of a JPEG before its first scan, as Go's decoder finds
// them: it passes over what is between them.
func segments(whole []byte, visit func(marker byte, body []byte)) {
	if !bytes.HasPrefix(whole, []byte{0xff, 0xd8}) {
		return
	}
	for b := whole[2:]; ; {
		i := bytes.IndexByte(b, 0xff)
		if i < 0 || len(b) < i+2 {
			return
		}
		marker := b[i+1]
		b = b[i+2:]
		for marker == 0xff && len(b) > 0 { // padding
			marker, b = b[0], b[1:]
		}
		if marker == 0 || 0xd0 <= marker && marker <= 0xd7 { // a byte that is none; a restart has no body
			continue
		}
		if marker == 0xd9 || marker == 0xda || len(b) < 2 { // the end, or a scan
			return
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 2 || n > len(b) {
			return
		}
		visit(marker, b[2:n])
		b = b[n:]
	}
}

// orientation is how a camera was held, 1 to 8 (EXIF 2.3, tag 0x0112); 1 is upright,
// and what is said of a photo that says nothing.
func orientation(whole []byte) (o int) {
	o = 1
	segments(whole, func(marker byte, body []byte) {
		tiff, ok := bytes.CutPrefix(body, []byte("Exif\x00\x00"))
		if marker != 0xe1 || !ok || len(tiff) < 8 {
			return
		}
		var order binary.ByteOrder = binary.BigEndian
		if tiff[0] == 'I' {
			order = binary.LittleEndian
		}
		at := uint64(order.Uint32(tiff[4:]))
		if at+2 > uint64(len(tiff)) {
			return
		}
		const entry = 12
		entries := tiff[at+2:]
		for range order.Uint16(tiff[at:]) {
			if len(entries) < entry {
				return
			}
			if v := int(order.Uint16(entries[8:])); order.Uint16(entries) == 0x0112 && v >= 1 && v <= 8 {
				o = v
			}
			entries = entries[entry:]
		}
	})
	return o
}

// upright turns a picture as its camera was held. It reads through to the one below:
// no second copy of a large one.
func upright(m image.Image, o int) image.Image {
	if o < 2 || o > 8 {
		return m
	}
	return turned{m, o}
}

type turned struct {
	image.Image
	o int
}

func (t turned) Bounds() image.Rectangle { return uprightSize(t.Image.Bounds(), t.o) }

// uprightSize is what a picture's bounds become when it is turned as its camera was held.
func uprightSize(b image.Rectangle, o int) image.Rectangle {
	if o >= 5 { // on its side
		return image.Rect(0, 0, b.Dy(), b.Dx())
	}
	return image.Rect(0, 0, b.Dx(), b.Dy())
}

func (t turned) At(x, y int) color.Color {
	b := t.Image.Bounds()
	w, h := b.Dx()-1, b.Dy()-1
	switch t.o {
	case 2:
		x = w - x
	case 3:
		x, y = w-x, h-y
	case 4:
		y = h - y
	case 5:
		x, y = y, x
	case 6:
		x, y = y, h-x
	case 7:
		x, y = w-y, h-x
	case 8:
		x, y = w-y, x
	}
	return t.Image.At(b.Min.X+x, b.Min.Y+y)
}
