package acts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// maxLent is how many bytes of thumbnails and pages, those of at most inMemory left out,
// may be in memory for the clients that are reading them. A cache bounds what it keeps,
// not what slow clients go on reading after it has dropped that.
const maxLent = 16 << 20

// maxAside is how many bytes of thumbnails, and of texts of pages, may be on disk for the
// clients that are reading them; maxLists how many of lists of users and categories, which
// uploads may depend on elsewhere. What is just being made, for two at a time, is not in
// it. Clients have no bound, and the disk may be that of photos.
const (
	maxAside = 256 << 20
	maxLists = 1 << 30
)

var errAside = refuse(http.StatusServiceUnavailable, "too many answers wait for clients that read slowly; try again")

// lend gives leave to hold n bytes until a client has read them; back ends it. So few as
// inMemory are always lent: with them a connection costs twice what it does without.
func (s *Service) lend(n int64) (back func(), ok bool) {
	if n <= inMemory {
		return func() {}, true
	}
	if !s.lent.TryAcquire(n) {
		return nil, false
	}
	return func() { s.lent.Release(n) }, true
}

// readable is a body to be read at a client's pace: in memory while that may be lent, else
// on disk. done ends it. Where there is no room on either it is 503.
func (s *Service) readable(body []byte) (content io.ReadSeeker, done func(), err error) {
	if back, ok := s.lend(int64(len(body))); ok {
		return bytes.NewReader(body), back, nil
	}
	n := int64(len(body))
	if !s.aside.TryAcquire(n) {
		return nil, nil, errAside
	}
	defer func() {
		if err != nil {
			s.aside.Release(n)
		}
	}()
	f, err := os.CreateTemp(s.spool, "answer-*")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	os.Remove(f.Name()) // it lives as long as it is open
	_, err = onlyWriter{f}.Write(body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, func() { f.Close(); s.aside.Release(n) }, nil
}

// limited is a buffer that takes no more than its limit.
type limited struct {
	b     bytes.Buffer
	limit int
}

// errFull is what a limited buffer says of more.
var errFull = errors.New("is more than may be held")

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > l.limit {
		return 0, errFull
	}
	return l.b.Write(p)
}
