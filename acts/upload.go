package acts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inMemory is the largest body that is read into memory before it is known to
	// come whole; a larger one waits on disk, so that a thousand slow clients cost
	// buffers and not bodies.
	inMemory = 64 << 10
	// readBuffer moves a body to disk, in bytes.
	readBuffer = 8 << 10
	// decodingCost is what a body costs from its decoding until its photo is stored, in
	// times its length: itself, the photo, and what a client library of S3 holds of it.
	decodingCost = 2
	// maxDecoding is what all of them may cost at once, in bytes: three of the largest by
	// default, or one where a single body may cost more.
	maxDecoding = 84 << 20
	// idleBody is how long a client may send nothing.
	idleBody = 15 * time.Second
	// slowest is the least average rate of a body, in bytes a second, after graceBody.
	slowest   = 4 << 10
	graceBody = 30 * time.Second
)

// errSlow ends a request whose body does not come.
var errSlow = errors.New("the body came too slowly")

var buffers = sync.Pool{New: func() any { b := make([]byte, readBuffer); return &b }}

// receive reads a whole body, at the client's pace but not slower than is bearable,
// and waits for leave to decode it: that is memory, and done a few at a time. The body
// is there until release is called. An error is a refusal, or of this machine.
func (s *Service) receive(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	if err := contentType(r.Header); err != nil {
		return nil, nil, err
	}
	if r.ContentLength > s.maxBody {
		return nil, nil, tooLarge(s.maxBody)
	}
	from := &patient{r: http.MaxBytesReader(w, r.Body, s.maxBody), c: http.NewResponseController(w), begin: time.Now(), idle: s.idleBody}
	defer func() {
		if err == nil {
			from.c.SetReadDeadline(time.Time{})
		} else { // the server does not wait for the rest of it either
			from.c.SetReadDeadline(time.Now())
		}
	}()
	if r.ContentLength >= 0 && r.ContentLength <= inMemory {
		b, err := io.ReadAll(from)
		return b, func() {}, unread(err)
	}
	body, err = s.spooled(from)
	if err != nil {
		return nil, nil, unread(err)
	}
	cost := int64(len(body)) * decodingCost
	if err := s.decoding.Acquire(r.Context(), cost); err != nil {
		unix.Munmap(body)
		return nil, nil, err
	}
	return body, func() {
		unix.Munmap(body)
		s.decoding.Release(cost)
	}, nil
}

// spooled moves a body to a file without a name and maps that.
func (s *Service) spooled(from io.Reader) ([]byte, error) {
	f, err := os.CreateTemp(s.spool, "upload-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	defer f.Close()
	os.Remove(f.Name()) // it lives as long as it is open or mapped
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(onlyWriter{f}, from, *buffer)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, wrong("body: is empty; give JSON")
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	return b, nil
}

// errStorage is a fault of this machine's disk, not of the client.
var errStorage = errors.New("no room")

// onlyWriter keeps io.CopyBuffer to its buffer; what fails on it is the disk.
type onlyWriter struct{ f *os.File }

func (w onlyWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errStorage, err)
	}
	return n, err
}

// patient reads as long as something comes, and enough.
type patient struct {
	r     io.Reader
	c     *http.ResponseController
	begin time.Time
	idle  time.Duration
	n     int64
}

func (p *patient) Read(b []byte) (int, error) {
	p.c.SetReadDeadline(time.Now().Add(p.idle)) // a recorder in a test has none
	n, err := p.r.Read(b)
	p.n += int64(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, errSlow
	}
	if took := time.Since(p.begin); err == nil && took > graceBody && float64(p.n) < slowest*took.Seconds() {
		return n, errSlow
	}
	return n, err
}

// unasked hurries a body that no handler reads: GET and DELETE may come with a small one,
// and the server takes what is left of any other before it answers.
func (s *Service) unasked(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Now().Add(s.idleBody)) // until receive sets another
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete {
		return
	}
	if r.ContentLength <= inMemory {
		if n, err := io.Copy(io.Discard, io.LimitReader(r.Body, inMemory+1)); err == nil && n <= inMemory { // its end was seen
			c.SetReadDeadline(time.Time{})
			return
		}
	}
	w.Header().Set("Connection", "close") // the answer does not wait for the rest, which has until the deadline
}

func (s *Service) addAct(w http.ResponseWriter, r *http.Request) {
	body, release, err := s.receive(w, r)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	defer release() // after the photo is stored: until then it is in memory
	a, photo, err := parseAct(body, s.maxPhoto)
	if err == nil {
		err = checkImage(photo, a.Photo.Type, s.strict)
	}
	if err != nil {
		s.refused(w, r, err)
		return
	}
	s.keep(w, r, a, photo)
}

// keep stores the photo first: never an act without one. Where the act is refused the
// photo goes again.
func (s *Service) keep(w http.ResponseWriter, r *http.Request, a act, body []byte) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	if err := s.people.known(ctx, a.Username, cmp.Or(s.origin, originOf(r))); err != nil {
		s.refused(w, r, err)
		return
	}
	a.Photo.Key = newKey()
	if err := s.photos.put(ctx, a.Photo.Key, a.Photo.Type, body); err != nil {
		s.broken(w, r, err)
		return
	}
	field, err := s.store.addAct(ctx, a, s.people.elsewhere())
	if err != nil && !errors.Is(err, errOutcome) { // refused for good; after an outcome that is not known it is the sweeper's
		s.photos.remove(ctx, s.log, a.Photo.Key)
	}
	value := map[string]string{"username": a.Username, "categoryName": a.Category, "actId": fmt.Sprint(a.ID)}[field]
	s.done(w, r, http.StatusCreated, field, value, err)
}

// unread is the refusal of a body that did not come.
func unread(err error) error {
	var long *http.MaxBytesError
	var no *refusal
	switch {
	case err == nil, errors.As(err, &no), errors.Is(err, errStorage):
		return err
	case errors.As(err, &long):
		return tooLarge(long.Limit)
	case errors.Is(err, errSlow):
		return refuse(http.StatusRequestTimeout, "body: it came too slowly; send at least %d bytes a second", slowest)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return wrong("body: it ends before its Content-Length; send all of it")
	}
	return wrong("body: can not be read; send it with a Content-Length, or in chunks")
}

func tooLarge(limit int64) error {
	return refuse(http.StatusRequestEntityTooLarge, "body: is larger than %d bytes; send a smaller photo", limit)
}

// contentType refuses what says that it is something else. Who says nothing sends JSON, and
// so does who leaves it to the tool: curl -d says that it sends a form, fetch text.
func contentType(h http.Header) error {
	said := h.Get("Content-Type")
	if said == "" {
		return nil
	}
	switch t, _, err := mime.ParseMediaType(said); {
	case err != nil:
	case t == "application/json", t == "application/x-www-form-urlencoded", t == "text/plain":
		return nil
	}
	return refuse(http.StatusUnsupportedMediaType, "Content-Type: %.80q is not taken; send application/json, or leave it out", said)
}
