package acts

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// imageType is the type of a photo by its content, empty for what is no image that
// browsers show. SVG is text that can hold scripts, and is none.
func imageType(b []byte) string {
	switch t := http.DetectContentType(b); t {
	case "image/jpeg", "image/png", "image/gif", "image/webp":
		return t
	}
	return ""
}

// checkImage refuses an upload of that type whose head claims more pixels than anybody
// should have to decode and, where strict, what is no image or has no head.
func checkImage(photo []byte, kind string, strict bool) error {
	if kind == "" {
		if strict {
			return wrong("imgB64: is no image; give a JPEG, PNG, GIF or WebP")
		}
		return nil
	}
	c, _, err := image.DecodeConfig(bytes.NewReader(photo))
	switch {
	case err == nil && int64(c.Width)*int64(c.Height) > maxPixels:
		return wrong("imgB64: the photo has %d by %d pixels, more than %d; give a smaller one", c.Width, c.Height, maxPixels)
	case strict && (err != nil || c.Width < 1 || c.Height < 1):
		return wrong("imgB64: begins as an %s, but its head can not be read; give a whole JPEG, PNG, GIF or WebP", kind)
	}
	return nil
}

// image answers with the photo of an act as it came or, with ?w=, as a smaller one.
func (s *Service) image(w http.ResponseWriter, r *http.Request) {
	id, ok := pathID(w, r)
	if !ok {
		return
	}
	width, err := widthAsked(r)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	p, err := s.store.photo(r.Context(), id)
	tag, small := p.tag(), width > 0 && p.Type != ""
	if small {
		tag += "-" + strconv.Itoa(width)
	}
	switch {
	case err != nil:
	case unchanged(w, r, tag):
		return
	case small:
		err = s.thumbnail(w, r, p, width, tag)
	default:
		err = s.original(w, r, p, tag)
	}
	var no noThumbnail
	switch {
	case errors.Is(err, errUnknown):
		fail(w, http.StatusNotFound, "actId: there is no %d", id)
	case errors.As(err, &no):
		fail(w, http.StatusUnprocessableEntity, "w: the photo of %d %v; ask for it without w", id, no)
	case err != nil:
		s.refused(w, r, err)
	}
}

// widthAsked is what ?w= comes to; 0 without it.
func widthAsked(r *http.Request) (int, error) {
	q, err := query(r)
	text := q.Get("w")
	if err != nil || text == "" {
		return 0, err
	}
	width, err := strconv.Atoi(text)
	if err != nil || width < minWidth || width > maxWidth {
		return 0, wrong("w: %.40q is not a width from %d to %d; give one, or leave it out", text, minWidth, maxWidth)
	}
	return nextWidth(width), nil
}

// unchanged answers who has it already (RFC 9110, 13.1.2), before anything is read or
// made. If-Match comes before that, and is the library's.
func unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	if r.Header.Get("If-Match") != "" {
		return false
	}
	for x := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(x), "W/") == `"`+tag+`"` {
			validators(w.Header(), tag)
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// validators: it is asked for again each time, with its tag. The same number may have
// another photo by then, or none.
func validators(h http.Header, tag string) {
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", "no-cache")
}

// imageHeaders say what it is and that it is nothing else.
func imageHeaders(h http.Header, contentType, tag string) {
	if contentType == "" { // neither shown nor run
		contentType = "application/octet-stream"
		h.Set("Content-Disposition", "attachment")
	}
	h.Set("Content-Type", contentType)
	validators(h, tag)
}

func (s *Service) original(w http.ResponseWriter, r *http.Request, p photo, tag string) error {
	whole, reader, err := s.photos.get(r.Context(), p)
	if err != nil {
		return err
	}
	var content io.ReadSeeker = bytes.NewReader(whole)
	if reader != nil {
		defer reader.Close()
		content = reader
	}
	imageHeaders(w.Header(), p.Type, tag)
	s.send(w, r, content)
	return nil
}

func (s *Service) thumbnail(w http.ResponseWriter, r *http.Request, p photo, width int, tag string) error {
	body, err := s.smaller(r.Context(), p, width)
	if err != nil {
		return err
	}
	if body == nil {
		return s.original(w, r, p, tag)
	}
	kind := http.DetectContentType(body)
	content, done, err := s.readable(body)
	if err != nil {
		return err
	}
	defer done()
	imageHeaders(w.Header(), kind, tag)
	s.send(w, r, content)
	return nil
}

// send serves a photo; where it can not be read to its end the client sees one that is
// cut off.
func (s *Service) send(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) {
	from := &watched{ReadSeeker: content}
	answered := serveContent(w, r, from)
	err := from.failed.Load()
	if err == nil || answered {
		return
	}
	if r.Context().Err() == nil {
		s.log.Error("photo cut off", "path", r.URL.Path, "reason", *err)
	}
	panic(http.ErrAbortHandler)
}

// serveContent answers ranges and tags as the headers before it say; it says whether it
// has answered an error.
func serveContent(w http.ResponseWriter, r *http.Request, content io.ReadSeeker) (failed bool) {
	x := &shaped{ResponseWriter: w}
	http.ServeContent(x, r, "", time.Time{}, content)
	return x.failed
}

// watched remembers why it could not be read: the library does not say, and reads from
// another goroutine where there are several ranges. It never asks for more than there was,
// so that an end is one that came too early.
type watched struct {
	io.ReadSeeker
	failed atomic.Pointer[error]
}

func (x *watched) Read(b []byte) (int, error) {
	n, err := x.ReadSeeker.Read(b)
	if err == io.EOF && n == 0 {
		early := fmt.Errorf("it ends too early: %w", io.ErrUnexpectedEOF)
		x.failed.Store(&early)
	} else if err != nil && err != io.EOF {
		x.failed.Store(&err)
	}
	return n, err
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
