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
	q, err := query(r)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	name := r.PathValue("category")
	n, version, err := s.store.size(r.Context(), name)
	if err != nil {
		s.done(w, r, 0, "category", name, err)
		return
	}
	start, end, err := span(q, n)
	switch {
	case err != nil:
		s.refused(w, r, err)
	case end-start+1 > pageLimit:
		fail(w, http.StatusRequestEntityTooLarge, "%d acts are asked for; at most %d are given at once: use ?start= and &end=", end-start+1, pageLimit)
	case n == 0:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "application/json")
		s.page(w, r, part{name, version, start, end, q.Get("images") != "0"})
	}
}

// part of a category, as it is at a version.
type part struct {
	category            string
	version, start, end int64
	images              bool
}

// page answers from memory where the page is small and that may be lent, else act by act.
func (s *Service) page(w http.ResponseWriter, r *http.Request, p part) {
	key := fmt.Sprintf("page/%q/%d/%d/%d/%t", p.category, p.version, p.start, p.end, p.images)
	if e, ok := s.photos.cache.get(key); ok {
		if back, ok := s.lend(int64(len(e.body))); ok {
			defer back()
			w.Write(e.body) // the client is gone where this fails
			return
		}
	}
	list, err := s.store.newest(r.Context(), p.category, p.start-1, p.end-p.start+1) // as new as the version, or newer
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if s.fromMemory(w, r, key, list, p.images) {
		return
	}
	err = s.stream(r.Context(), w, list, p.images)
	switch {
	case err == nil:
	case !begun(w):
		s.refused(w, r, err)
	default: // the client sees an answer that is cut off
		if r.Context().Err() == nil && !lost(w) {
			s.log.Error("list cut off", "category", p.category, "reason", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// fromMemory answers with a page that is made in memory, and keeps it; false where it is too
// large for that or nothing may be lent. What is lent has come back by then.
func (s *Service) fromMemory(w http.ResponseWriter, r *http.Request, key string, list []act, images bool) (answered bool) {
	n := weight(list, images)
	if n > cachedPage {
		return false
	}
	back, ok := s.lend(n)
	if !ok {
		return false
	}
	defer back()
	body, all, err := s.wholePage(r.Context(), list, max(n, inMemory), images)
	switch {
	case errors.Is(err, errFull):
		return false
	case err != nil:
		s.refused(w, r, err)
		return true
	case all: // else the photo of an act was not there: where the act is, it may be there again
		s.photos.cache.put(key, body, nil)
	}
	w.Write(body)
	return true
}

// cachedPage is the largest page that is kept, in bytes.
const cachedPage = 256 << 10

// weight of a page in bytes, about: a text with much to escape is longer.
func weight(list []act, images bool) (n int64) {
	const fields = 256 // names and numbers
	for _, a := range list {
		n += fields + int64(len(a.Caption)+len(a.Username)+len(a.Category)) + a.LongText
		if images {
			n += int64(base64.StdEncoding.EncodedLen(int(a.Photo.Size)))
		}
	}
	return n
}

// wholePage is a page in memory, to be kept until its category changes where all acts are
// in it; errFull beyond its limit.
func (s *Service) wholePage(ctx context.Context, list []act, limit int64, images bool) (body []byte, all bool, err error) {
	out := limited{limit: int(limit)}
	if all, err = s.feed(ctx, &out, list, nil, images); err != nil {
		return nil, false, err
	}
	return bytes.Clone(out.b.Bytes()), all, nil // no more than its length
}

// stream sends a page act by act. Whatever its photos and texts are, what waits for the
// client in memory is a buffer, and texts of inMemory at most. Room on disk for the rest is
// taken before anything is sent: for the long texts as they are in the database, quoted or
// not.
func (s *Service) stream(ctx context.Context, w http.ResponseWriter, list []act, images bool) error {
	var texts, long, longest int64
	for _, a := range list {
		texts += int64(len(a.Username) + len(a.Caption))
		long, longest = long+a.longFields(), max(longest, a.longFields())
	}
	var aside []*io.SectionReader
	x := &spool{}
	if texts > inMemory {
		var err error
		x, err = s.made(ctx, func(x *spool) (err error) {
			aside, err = setAside(x, list)
			return err
		})
		if err != nil {
			return err
		}
	}
	defer x.Close()
	if n := x.n + min(long, max(longest, together)); n > inMemory {
		if err := x.holds(s.aside, maxAside, n); err != nil {
			return err
		}
	}
	_, err := s.feed(ctx, w, list, aside, images)
	return err
}

// setAside moves the texts of a list to disk: where those of each act are. What is too
// long for a list stays in the database until its turn.
func setAside(x *spool, list []act) ([]*io.SectionReader, error) {
	ends := make([]int64, len(list))
	for i := range list {
		if a := &list[i]; a.LongText == 0 {
			if err := writeFields(x, *a); err != nil {
				return nil, err
			}
			a.Username, a.Caption = "", ""
		}
		ends[i] = x.n
	}
	if err := x.flush(); err != nil {
		return nil, err
	}
	x.buf = nil
	aside, begin := make([]*io.SectionReader, len(list)), int64(0)
	for i, end := range ends {
		if end > begin {
			var err error
			if aside[i], err = x.section(begin, end); err != nil {
				return nil, err
			}
		}
		begin = end
	}
	return aside, nil
}

// feed writes a list act by act: however large its photos are, it holds a buffer of
// each at a time. An act that was removed meanwhile is left out, and not all are written.
// aside are the fields of acts where they have been moved to disk.
func (s *Service) feed(ctx context.Context, into io.Writer, list []act, aside []*io.SectionReader, images bool) (all bool, err error) {
	out := bufio.NewWriterSize(into, feedBuffer)
	out.WriteByte('[')
	first := true
	all = true
	if aside == nil {
		aside = make([]*io.SectionReader, len(list))
	}
	long, next := &spool{}, 0 // the long texts up to next have been read into it
	defer func() { long.Close() }()
	for i, a := range list {
		if a.LongText > 0 && i >= next {
			x, end, err := s.longTexts(ctx, list, i, aside)
			if err != nil {
				return false, err
			}
			long.Close()
			long, next = x, end
		}
		wrote, err := s.feedOne(ctx, out, a, aside[i], images, first)
		if err != nil {
			return false, fmt.Errorf("act %d: %w", a.ID, err)
		}
		first, all = first && !wrote, all && wrote
	}
	out.WriteString("]\n")
	return all, out.Flush()
}

func (s *Service) feedOne(ctx context.Context, out *bufio.Writer, a act, aside *io.SectionReader, images, first bool) (wrote bool, err error) {
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
	if aside == nil {
		if a.LongText > 0 {
			return false, nil // it was not there when they were read
		}
		x := &spool{dir: s.spool}
		defer x.Close()
		if err := writeFields(x, a); err != nil {
			return false, err
		}
		if aside, err = x.section(0, x.n); err != nil {
			return false, err
		}
	}
	if !first {
		out.WriteByte(',')
	}
	if _, err = io.Copy(out, aside); err != nil { // through the buffer of out
		return true, err
	}
	if !images {
		return true, out.WriteByte('}')
	}
	out.WriteString(`,"imgB64":"`)
	if reader == nil {
		writeBase64(out, whole)
	} else {
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		e := base64.NewEncoder(base64.StdEncoding, out)
		n, err := io.CopyBuffer(e, struct{ io.Reader }{reader}, *buffer) // its WriteTo would take 1 MiB
		if err == nil && n < a.Photo.Size {
			err = fmt.Errorf("read photo: it ends too early: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return true, err
		}
		e.Close()
	}
	_, err = out.WriteString(`"}`)
	return true, err
}

// writeFields writes what is listed of an act, without the bracket at the end: its photo
// may follow.
func writeFields(x *spool, a act) error {
	fmt.Fprintf(x, `{"actId":%d,"timestamp":%q,"upvotes":%d`, a.ID, a.Timestamp, a.Upvotes)
	for _, f := range []struct{ name, text string }{{"username", a.Username}, {"categoryName", a.Category}, {"caption", a.Caption}} {
		fmt.Fprintf(x, `,%q:`, f.name)
		if err := x.text(f.text); err != nil {
			return err
		}
	}
	return nil
}

// together is how many bytes of long texts are read at once; a longer one is read alone.
const together = 1 << 20

// longFields is how many bytes of texts are written of an act that has long ones.
func (a act) longFields() int64 {
	if a.LongText == 0 {
		return 0
	}
	return a.LongText + int64(len(a.Category))
}

// longTexts reads the long texts of a list from one on, as many as go together, and sets
// aside the fields of their acts, but not of those that were removed meanwhile. The rest,
// from next on, is for another call.
func (s *Service) longTexts(ctx context.Context, list []act, from int, aside []*io.SectionReader) (x *spool, next int, err error) {
	var photos []string
	at, n := map[string]int{}, int64(0)
	for next = from; next < len(list); next++ {
		a := list[next]
		if a.LongText == 0 {
			continue
		}
		if n += a.longFields(); n > together && len(photos) > 0 {
			break
		}
		photos, at[a.Photo.Key] = append(photos, a.Photo.Key), next
	}
	begins, ends := map[int]int64{}, map[int]int64{}
	x, err = s.made(ctx, func(x *spool) error {
		return s.store.texts(ctx, photos, func(photo, username, caption string) error {
			i := at[photo]
			a := list[i]
			a.Username, a.Caption, begins[i] = username, caption, x.n
			err := writeFields(x, a)
			ends[i] = x.n
			return err
		})
	})
	if err != nil {
		return nil, 0, err
	}
	for i, end := range ends {
		if aside[i], err = x.section(begins[i], end); err != nil {
			x.Close()
			return nil, 0, err
		}
	}
	return x, next, nil
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
