package acts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // decoders of what is taken for an image
	"image/jpeg"
	"image/png"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

const (
	// maxDecoded is what a decoded photo and its thumbnail may cost together, in bytes:
	// beside a small thumbnail 44 million pixels of most JPEGs, 16 of most PNGs. One is
	// made at a time, beside the rest of a process in a container of 256 MiB.
	maxDecoded = 64 << 20
	// maxPixels of a photo that is taken, as many as 8192 by 8192 have. In no format does
	// a pixel cost less than a byte, so that of more there would never be a thumbnail.
	maxPixels = maxDecoded
	// maxShown is how many pixels a photo may have that is given for its thumbnail: a
	// page shows many, and a browser takes 4 bytes for each pixel. No thumbnail has more.
	maxShown = maxDecoded / 4
	// maxThumbnail is the largest that is given, in bytes: several times what a photo of
	// maxWidth takes.
	maxThumbnail = 4 << 20
	minWidth     = 16
	maxWidth     = 2048
	jpegGrade    = 80
	maxJPEG      = 1<<16 - 1 // pixels of a side (ITU T.81, B.2.2)
)

// widths that thumbnails have. Who asks for another gets the next larger one: a photo
// costs the work and the memory of these few at most.
var widths = [...]int{64, 160, 320, 640, 1280, maxWidth}

// nextWidth is of those that there are.
func nextWidth(asked int) int {
	for _, w := range widths {
		if w >= asked {
			return w
		}
	}
	return maxWidth
}

// noThumbnail is what is wrong with a photo that has none. A photo's key never has other
// bytes, so that this stays true.
type noThumbnail string

func (e noThumbnail) Error() string { return string(e) }

const (
	errNoImage = noThumbnail("can not be decoded")
	// errTooManyPixels refuses what is small as a file and huge when it is decoded.
	errTooManyPixels = noThumbnail("has more pixels than thumbnails are made of")
	// errTooManyScans refuses what would keep the decoder busy for minutes.
	errTooManyScans  = noThumbnail("has more scans than thumbnails are made of")
	errThumbnailSize = noThumbnail("makes a thumbnail of more than 4 MiB at this width")
)

// smaller is a photo made smaller, nil where it is narrow enough as it is. Of those who
// want the same at once the first makes it, or finds that there is none.
func (s *Service) smaller(ctx context.Context, p photo, width int) ([]byte, error) {
	key := fmt.Sprintf("%s?w=%d", p.Key, width)
	if e, ok := s.photos.cache.get(key); ok {
		return e.body, e.err
	}
	select {
	case s.shrinking <- struct{}{}:
		defer func() { <-s.shrinking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e, ok := s.photos.cache.get(key); ok { // made while this one waited
		return e.body, e.err
	}
	whole, err := s.photos.whole(ctx, p)
	if err != nil {
		return nil, err
	}
	s.metrics.thumbnails.Inc()
	body, err := shrink(whole, width)
	if no := noThumbnail(""); err == nil || errors.As(err, &no) {
		s.photos.cache.put(key, body, err)
	}
	return body, err
}

// shrink makes a photo smaller; it returns nil where it is narrow enough as it is.
func shrink(whole []byte, width int) ([]byte, error) {
	c, format, err := image.DecodeConfig(bytes.NewReader(whole))
	if err != nil || c.Width < 1 || c.Height < 1 {
		return nil, errNoImage
	}
	held, cost := orientation(whole), decodedCost(format, c, whole)
	said := uprightSize(image.Rect(0, 0, c.Width, c.Height), held)
	if said.Dx() <= width {
		return nil, shown(c)
	}
	if _, err := thumbnailSize(said, width, cost); err != nil {
		return nil, err
	}
	if format == "jpeg" && scans(whole) > maxScans {
		return nil, errTooManyScans
	}
	from, _, err := image.Decode(bytes.NewReader(whole))
	if err != nil {
		return nil, errNoImage
	}
	from = upright(from, held)
	b := from.Bounds() // the first picture of a GIF may be a part of what its head says
	if b.Dx() <= width {
		return nil, shown(c)
	}
	size, err := thumbnailSize(b, width, cost)
	if err != nil {
		return nil, err
	}
	to := image.NewRGBA(size)
	draw.ApproxBiLinear.Scale(to, size, from, b, draw.Src, nil)
	return encode(to)
}

func encode(m *image.RGBA) ([]byte, error) {
	out, err := limited{limit: maxThumbnail}, error(nil)
	if m.Opaque() && m.Rect.Dy() <= maxJPEG {
		err = jpeg.Encode(&out, m, &jpeg.Options{Quality: jpegGrade})
	} else {
		err = png.Encode(&out, m)
	}
	if errors.Is(err, errFull) {
		return nil, errThumbnailSize
	}
	return bytes.Clone(out.b.Bytes()), err // no more than its length
}

// shown says whether a photo may be given as it is for its thumbnail.
func shown(c image.Config) error {
	if int64(c.Width)*int64(c.Height) > maxShown {
		return errTooManyPixels
	}
	return nil
}

// thumbnailSize of a picture that is wider than width, and costs as much when it is
// decoded.
func thumbnailSize(b image.Rectangle, width int, cost int64) (image.Rectangle, error) {
	const pixel = 4 // bytes: red, green, blue and alpha
	height := max(1, int64(b.Dy())*int64(width)/int64(b.Dx()))
	if room := maxDecoded - cost; room < 0 || height > room/pixel/int64(width) {
		return image.Rectangle{}, errTooManyPixels
	}
	return image.Rect(0, 0, width, int(height)), nil
}
