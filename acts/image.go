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
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

const (
	// maxDecoded is what a decoded photo and its thumbnail may cost together, in bytes:
	// beside a small thumbnail 44 million pixels of most JPEGs, 16 of most PNGs. One is
	// made at a time, beside the rest of a process in a container of 256 MiB.
	maxDecoded = 64 << 20
	minWidth   = 16
	maxWidth   = 2048
	jpegGrade  = 80
	maxJPEG    = 1<<16 - 1 // pixels of a side (ITU T.81, B.2.2)
)

// errTooManyPixels refuses what is small as a file and huge when it is decoded.
var errTooManyPixels = errors.New("has more pixels than thumbnails are made of")

// imageType is the type of a photo by its content, empty for what is no image that
// browsers show. SVG is text that can hold scripts, and is none.
func imageType(b []byte) string {
	switch t := http.DetectContentType(b); t {
	case "image/jpeg", "image/png", "image/gif", "image/webp":
		return t
	}
	return ""
}

// image answers with the photo of an act as it came or, with ?w=, as a smaller one.
func (s *Service) image(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	width := 0
	if text := r.URL.Query().Get("w"); text != "" {
		var err error
		if width, err = strconv.Atoi(text); err != nil || width < minWidth || width > maxWidth {
			fail(w, http.StatusBadRequest, "w: %q is not a width from %d to %d", text, minWidth, maxWidth)
			return
		}
	}
	p, err := s.store.photo(r.Context(), id)
	if errors.Is(err, errUnknown) {
		fail(w, http.StatusNotFound, "actId: there is no %d", id)
		return
	}
	if err == nil && width > 0 && p.Type != "" {
		err = s.thumbnail(w, r, p, width)
	} else if err == nil {
		err = s.original(w, r, p)
	}
	switch {
	case errors.Is(err, errUnknown):
		fail(w, http.StatusNotFound, "actId: there is no %d", id)
	case errors.Is(err, errTooManyPixels), errors.Is(err, errNoImage):
		fail(w, http.StatusUnprocessableEntity, "w: the photo of %d %v; ask for it without w", id, err)
	case err != nil:
		s.broken(w, r, err)
	}
}

var errNoImage = errors.New("can not be decoded")

// imageHeaders say what it is and that it is nothing else. It is asked for again each
// time, with its tag: the same number may have another photo by then, or none.
func imageHeaders(h http.Header, contentType, tag string) {
	if contentType == "" { // neither shown nor run
		contentType = "application/octet-stream"
		h.Set("Content-Disposition", "attachment")
	}
	h.Set("Content-Type", contentType)
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", "no-cache")
}

// serveContent answers ranges and tags as the headers before it say.
func serveContent(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) {
	http.ServeContent(&shaped{ResponseWriter: w}, r, "", time.Time{}, content)
}

// shaped gives errors of the library the shape that ours have.
type shaped struct {
	http.ResponseWriter
	failed bool
}

func (w *shaped) WriteHeader(status int) {
	if w.failed = status >= 400; !w.failed {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	message := "the photo could not be read; try again"
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		message = "Range: is not a part of it; Content-Range says how many bytes it has"
	case http.StatusPreconditionFailed:
		message = "If-Match: it is another one now; leave the header out to get that"
	}
	w.Header().Del("Content-Disposition")
	fail(w.ResponseWriter, status, "%s", message)
}

func (w *shaped) Write(b []byte) (int, error) {
	if w.failed {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

func (s *Service) original(w http.ResponseWriter, r *http.Request, p photo) error {
	whole, reader, err := s.photos.get(r.Context(), p)
	if err != nil {
		return err
	}
	var content io.ReadSeeker = bytes.NewReader(whole)
	if reader != nil {
		defer reader.Close()
		content = reader
	}
	imageHeaders(w.Header(), p.Type, p.tag())
	serveContent(w, r, content)
	return nil
}

func (s *Service) thumbnail(w http.ResponseWriter, r *http.Request, p photo, width int) error {
	key := fmt.Sprintf("%s?w=%d", p.Key, width)
	body, ok := s.photos.cache.get(key)
	if !ok {
		var err error
		if body, err = s.shrink(r.Context(), p, width); err != nil {
			return err
		}
		s.photos.cache.put(key, body)
	}
	imageHeaders(w.Header(), http.DetectContentType(body), p.tag()+"-"+strconv.Itoa(width))
	serveContent(w, r, bytes.NewReader(body))
	return nil
}

// shrink makes a photo smaller; one that is narrow enough stays as it is.
func (s *Service) shrink(ctx context.Context, p photo, width int) ([]byte, error) {
	select {
	case s.shrinking <- struct{}{}:
		defer func() { <-s.shrinking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	whole, reader, err := s.photos.get(ctx, p)
	if err != nil {
		return nil, err
	}
	if reader != nil {
		defer reader.Close()
		if whole, err = io.ReadAll(io.LimitReader(reader, maxPhoto)); err != nil {
			return nil, err
		}
	}
	return shrink(whole, width)
}

func shrink(whole []byte, width int) ([]byte, error) {
	c, format, err := image.DecodeConfig(bytes.NewReader(whole))
	if err != nil || c.Width < 1 || c.Height < 1 {
		return nil, errNoImage
	}
	held, cost := orientation(whole), decodedCost(format, c, whole)
	said := uprightSize(image.Rect(0, 0, c.Width, c.Height), held)
	if said.Dx() <= width {
		return whole, nil
	}
	if _, err := thumbnailSize(said, width, cost); err != nil {
		return nil, err
	}
	from, _, err := image.Decode(bytes.NewReader(whole))
	if err != nil {
		return nil, errNoImage
	}
	from = upright(from, held)
	b := from.Bounds() // the first picture of a GIF may be a part of what its head says
	if b.Dx() <= width {
		return whole, nil
	}
	size, err := thumbnailSize(b, width, cost)
	if err != nil {
		return nil, err
	}
	to := image.NewRGBA(size)
	draw.ApproxBiLinear.Scale(to, size, from, b, draw.Src, nil)
	var out bytes.Buffer
	if to.Opaque() && size.Dy() <= maxJPEG {
		err = jpeg.Encode(&out, to, &jpeg.Options{Quality: jpegGrade})
	} else {
		err = png.Encode(&out, to)
	}
	return out.Bytes(), err
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
