package acts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/semaphore"
)

const (
	// spoolInMemory is how much of an answer waits in memory, in bytes; the rest waits
	// on disk.
	spoolInMemory = 64 << 10
	// piece is how much of a text is quoted at once, in bytes.
	piece = 16 << 10
	// listing is how many answers are made at once. Each may hold one text as long as
	// a body, a few times over while the database hands it out.
	listing = 2
)

// spool is an answer that is made at the database's pace and sent at the client's, so
// that neither waits for the other, in bounded memory.
type spool struct {
	dir   string
	buf   []byte
	file  *os.File // without a name; nil while all is in buf
	items int
	n     int64 // bytes written
	err   error // the first of the disk: something is missing from then on
	back  func()
}

// Write never waits for a client. An error is errStorage, and stays.
func (s *spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(s.buf)+len(p) > spoolInMemory {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	s.buf = append(s.buf, p...)
	s.n += int64(len(p))
	return len(p), nil
}

func (s *spool) flush() (err error) {
	defer func() { s.err = err }()
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "answer-*"); err != nil {
			return fmt.Errorf("%w: %w", errStorage, err)
		}
		os.Remove(s.file.Name()) // it lives as long as it is open
	}
	_, err = onlyWriter{s.file}.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// text writes a JSON string, a piece at a time: quoted it may be six times as long.
func (s *spool) text(x string) error {
	s.Write([]byte{'"'})
	for len(x) > 0 {
		n := min(len(x), piece)
		for n < len(x) && n > piece-utf8.UTFMax && !utf8.RuneStart(x[n]) {
			n--
		}
		q, _ := jsontext.AppendQuote(nil, x[:n]) // what is no UTF-8, which no database of ours gives, it replaces
		if _, err := s.Write(q[1 : len(q)-1]); err != nil {
			return err
		}
		x = x[n:]
	}
	_, err := s.Write([]byte{'"'})
	return err
}

// item writes one more member of a list: a text, and what follows it.
func (s *spool) item(x, after string) error {
	if s.items++; s.items > 1 {
		s.Write([]byte{','})
	}
	if err := s.text(x); err != nil {
		return err
	}
	_, err := s.Write([]byte(after))
	return err
}

// WriteTo gives it out, once.
func (s *spool) WriteTo(w io.Writer) (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.file == nil {
		n, err := w.Write(s.buf)
		return int64(n), err
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s.file}, *buffer)
}

// section is a part of it, as long as it is not closed and nothing more is written.
func (s *spool) section(begin, end int64) (*io.SectionReader, error) {
	var all io.ReaderAt = bytes.NewReader(s.buf)
	if s.file != nil {
		if len(s.buf) > 0 {
			if err := s.flush(); err != nil {
				return nil, err
			}
		}
		s.buf, all = nil, s.file
	}
	return io.NewSectionReader(all, begin, end-begin), s.err
}

func (s *spool) Close() {
	if s.file != nil {
		s.file.Close() // nothing is kept in it
	}
	if s.back != nil {
		s.back()
	}
}

// holds counts n bytes on disk as a client's until it is closed; errAside where they are
// too many. What is more than all that may be there is there alone.
func (s *spool) holds(of *semaphore.Weighted, most, n int64) error {
	n = min(n, most)
	if !of.TryAcquire(n) {
		return errAside
	}
	s.back = func() { of.Release(n) }
	return nil
}

// made calls make with a new spool when it is its turn. The caller closes it.
func (s *Service) made(ctx context.Context, make func(*spool) error) (*spool, error) {
	if err := s.listing.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.listing.Release(1)
	x := &spool{dir: s.spool}
	if err := make(x); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// list answers a list between two brackets; an empty one is 204.
func (s *Service) list(w http.ResponseWriter, r *http.Request, brackets string, make func(*spool) error) {
	x, err := s.made(r.Context(), make)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	defer x.Close()
	if x.items == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if x.file != nil {
		if err := x.holds(s.lists, maxLists, x.n); err != nil {
			s.refused(w, r, err)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, brackets[:1])
	if _, err := x.WriteTo(w); err != nil { // it has begun: the client sees an answer that is cut off
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, brackets[1:]+"\n")
}
