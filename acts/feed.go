package acts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// feedBuffer is what is written to the connection at once, in bytes.
const feedBuffer = 32 << 10

func (s *Service) listActs(w http.ResponseWriter, r *http.Request) {
	name, q := r.PathValue("category"), r.URL.Query()
	n, version, err := s.store.size(r.Context(), name)
	if err != nil {
		s.done(w, r, 0, "category", name, err)
		return
	}
	start, end, err := span(q, n)
	switch {
	case err != nil:
		s.refused(w, r, err)
		return
	case end-start+1 > pageLimit:
		fail(w, http.StatusRequestEntityTooLarge, "%d acts are asked for; at most %d are given at once: use ?start= and &end=", end-start+1, pageLimit)
		return
	case n == 0:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	images := q.Get("images") != "0"
	key := fmt.Sprintf("page/%q/%d/%d/%d/%t", name, version, start, end, images)
	if body, ok := s.photos.cache.get(key); ok {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body) // the client is gone where this fails
		return
	}
	list, err := s.store.newest(r.Context(), name, start-1, end-start+1) // as new as version, or newer
	if err != nil {
		s.broken(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !small(list, images) {
		if err := s.feed(r.Context(), w, list, images); err != nil { // some of it may be out: the client sees an answer that is cut off
			if r.Context().Err() == nil {
				s.log.Error("list cut off", "category", name, "reason", err)
			}
			panic(http.ErrAbortHandler)
		}
		return
	}
	var body bytes.Buffer
	if err := s.feed(r.Context(), &body, list, images); err != nil {
		s.refused(w, r, err)
		return
	}
	s.photos.cache.put(key, bytes.Clone(body.Bytes())) // no more than its length
	w.Write(body.Bytes())
}

// cachedPage is the largest page that is kept, in bytes.
const cachedPage = 256 << 10

// small says whether a page is made in memory, to be kept until its category changes.
func small(list []act, images bool) bool {
	const fields = 256 // names and numbers
	n := 0
	for _, a := range list {
		n += fields + len(a.Caption) + len(a.Username) + len(a.Category) + int(a.LongText)
		if images {
			n += base64.StdEncoding.EncodedLen(int(a.Photo.Size))
		}
	}
	return n <= cachedPage
}

// feed writes a list act by act: however large its photos are, it holds a buffer of
// each at a time. An act that was removed meanwhile is left out.
func (s *Service) feed(ctx context.Context, into io.Writer, list []act, images bool) error {
	out := bufio.NewWriterSize(into, feedBuffer)
	out.WriteByte('[')
	first := true
	for _, a := range list {
		wrote, err := s.feedOne(ctx, out, a, images, first)
		if err != nil {
			return fmt.Errorf("act %d: %w", a.ID, err)
		}
		first = first && !wrote
	}
	out.WriteString("]\n")
	return out.Flush()
}

func (s *Service) feedOne(ctx context.Context, out *bufio.Writer, a act, images, first bool) (wrote bool, err error) {
	var whole []byte
	var reader io.ReadSeekCloser
	if images {
		whole, reader, err = s.photos.get(ctx, a.Photo)
		if errors.Is(err, errUnknown) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if reader != nil {
			defer reader.Close()
		}
	}
	fields, err := s.fields(ctx, a)
	if errors.Is(err, errUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer fields.Close()
	if !first {
		out.WriteByte(',')
	}
	if _, err := fields.WriteTo(out); err != nil {
		return true, err
	}
	if !images {
		return true, out.WriteByte('}')
	}
	out.WriteString(`,"imgB64":"`)
	if reader == nil {
		writeBase64(out, whole)
	} else {
		e := base64.NewEncoder(base64.StdEncoding, out)
		if _, err := io.Copy(e, reader); err != nil {
			return true, err
		}
		e.Close()
	}
	_, err = out.WriteString(`"}`)
	return true, err
}

// fields are what is listed of an act, without the bracket at the end: its photo may
// follow. Long texts are read now, for this act alone, and wait on disk.
func (s *Service) fields(ctx context.Context, a act) (*spool, error) {
	write := func(x *spool) error {
		fmt.Fprintf(x, `{"actId":%d,"timestamp":%q,"upvotes":%d`, a.ID, a.Timestamp, a.Upvotes)
		for _, f := range []struct{ name, text string }{{"username", a.Username}, {"categoryName", a.Category}, {"caption", a.Caption}} {
			fmt.Fprintf(x, `,%q:`, f.name)
			if err := x.text(f.text); err != nil {
				return err
			}
		}
		return nil
	}
	if a.LongText == 0 {
		x := &spool{dir: s.spool}
		if err := write(x); err != nil {
			x.Close()
			return nil, err
		}
		return x, nil
	}
	return s.made(ctx, func(x *spool) (err error) {
		if a.Username, a.Caption, err = s.store.texts(ctx, a.Photo.Key); err != nil {
			return err
		}
		return write(x)
	})
}

// writeBase64 encodes straight into the buffer of out, a piece at a time.
func writeBase64(out *bufio.Writer, b []byte) {
	const most = feedBuffer / 8 * 3 // a multiple of 3: half a buffer when it is encoded
	for len(b) > 0 {
		n := min(len(b), most)
		if out.Available() < base64.StdEncoding.EncodedLen(n) {
			out.Flush() // an error of it stays in out
		}
		text := base64.StdEncoding.AppendEncode(out.AvailableBuffer(), b[:n])
		out.Write(text)
		b = b[n:]
	}
}
