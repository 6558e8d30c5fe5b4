package acts

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // the scheme s3://
	"gocloud.dev/gcerrors"
)

// photos keeps the bytes of photos, in a folder or a bucket, below the name of their
// database: what else is there belongs to others. A photo has a key of its own that is
// never used for other bytes, so that what is removed and what is added under one act's
// number never meet, and what is cached is never stale.
type photos struct {
	bucket *blob.Bucket // what is below the name of the database
	root   string       // folder of file://; empty for S3
	dir    string       // its part that is ours, to make a photo last before its act does
	cache  *cache
}

// cacheSize is how many bytes of photos and thumbnails a process keeps: a page of
// small ones is read a thousand times for each time that it changes.
const cacheSize = 48 << 20

// cachedPhoto is the largest that is kept, in bytes: each client that reads it holds it
// in memory until the end. A larger one comes from the bucket piece by piece.
const cachedPhoto = inMemory

// openPhotos opens file:///FOLDER or s3://BUCKET?region=REGION, and of it what is below
// the name of the database; credentials of S3 come from the environment, the AWS files
// or the machine's role.
func openPhotos(ctx context.Context, at, below string) (*photos, error) {
	p := &photos{cache: newCache(cacheSize)}
	u, err := url.Parse(at)
	const form = "write it as file:///FOLDER or s3://BUCKET?region=REGION"
	switch {
	case err != nil: // the error repeats all of it
		return nil, errors.New("--photos: is no URL; " + form)
	case u.User != nil: // perhaps a secret, which no error repeats
		u.User = nil
		return nil, fmt.Errorf("--photos %q: leave out what was before the @, and %s; credentials of S3 come from the environment, the AWS files or the machine's role", u, form)
	case u.Scheme != "file" && u.Scheme != "s3":
		return nil, fmt.Errorf("--photos %q: %s", at, form)
	}
	if u.Scheme == "file" {
		p.root, p.dir = u.Path, filepath.Join(u.Path, below)
		p.bucket, err = fileblob.OpenBucket(p.root, &fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	} else {
		p.bucket, err = blob.OpenBucket(ctx, at)
	}
	if err != nil {
		return nil, fmt.Errorf("--photos %q: %w", at, err)
	}
	p.bucket = blob.PrefixedBucket(p.bucket, below+"/")
	if p.dir == "" {
		return p, nil
	}
	err = os.MkdirAll(p.dir, 0o700)
	if err == nil {
		err = syncPath(p.root)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--photos %q: %w", at, err), p.Close())
	}
	return p, nil
}

func (p *photos) Close() error { return p.bucket.Close() }

// write is the bucket's WriteAll without its MD5, a fifth of what an upload cost: the
// folder has no use for it, and S3's client sums what it sends by itself.
func (p *photos) write(ctx context.Context, key, contentType string, body []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before Close it leaves nothing
	w, err := p.bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		cancel()
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// newKey is 128 random bits, below one of 256 folders.
func newKey() string {
	b := make([]byte, 16)
	crand.Read(b) // never fails (crypto/rand)
	k := hex.EncodeToString(b)
	return k[:2] + "/" + k[2:]
}

// put stores a photo for good: when it returns nil it outlives a power cut.
func (p *photos) put(ctx context.Context, key, contentType string, body []byte) error {
	if err := p.write(ctx, key, contentType, body); err != nil {
		p.bucket.Delete(context.WithoutCancel(ctx), key) // on a full disk a part of it stays; else there is none
		return fmt.Errorf("store photo: %w", err)
	}
	if p.dir == "" {
		return nil
	}
	path := filepath.Join(p.dir, filepath.FromSlash(key))
	for _, x := range []string{path, filepath.Dir(path), p.dir} { // each may be new in the next
		if err := syncPath(x); err != nil {
			return errors.Join(fmt.Errorf("store photo: %w", err), p.bucket.Delete(context.WithoutCancel(ctx), key))
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// get returns a small photo from memory or keeps it there; a larger one only as a
// reader. errUnknown: it has been removed.
func (p *photos) get(ctx context.Context, x photo) (whole []byte, r io.ReadSeekCloser, err error) {
	if e, ok := p.cache.get(x.Key); ok {
		return e.body, nil, nil
	}
	reader, err := p.bucket.NewReader(ctx, x.Key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, nil, errUnknown
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read photo: %w", err)
	}
	if reader.Size() < x.Size { // else what there is of it would look whole
		reader.Close()
		return nil, nil, fmt.Errorf("read photo: it has %d bytes of %d: %w", reader.Size(), x.Size, io.ErrUnexpectedEOF)
	}
	if x.Size > cachedPhoto {
		return nil, reader, nil
	}
	defer reader.Close()
	b := make([]byte, x.Size)
	if _, err := io.ReadFull(reader, b); err != nil {
		return nil, nil, fmt.Errorf("read photo: %w", err)
	}
	p.cache.put(x.Key, b, nil)
	return b, nil, nil
}

// whole reads a photo into memory, however large it is.
func (p *photos) whole(ctx context.Context, x photo) ([]byte, error) {
	b, reader, err := p.get(ctx, x)
	if err != nil || reader == nil {
		return b, err
	}
	defer reader.Close()
	b = make([]byte, x.Size)
	if _, err := io.ReadFull(reader, b); err != nil {
		return nil, fmt.Errorf("read photo: %w", err)
	}
	return b, nil
}

// removeNow is how many photos of a category a request removes itself; the sweeper takes
// the rest.
const removeNow = 200

// tag of a photo, for browsers: another one for other bytes.
func (x photo) tag() string { return strings.ReplaceAll(x.Key, "/", "") }

// remove drops photos whose acts are gone. One that stays is the sweeper's.
func (p *photos) remove(ctx context.Context, log *slog.Logger, keys ...string) {
	for _, key := range keys {
		if err := p.bucket.Delete(context.WithoutCancel(ctx), key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			log.Warn("photo stays until it is swept", "reason", err)
			return
		}
	}
}

const (
	// sweepGrace is how old a photo without an act must be: an upload takes seconds.
	sweepGrace = time.Hour
	// sweepInterval is how often one process looks for them.
	sweepInterval = 30 * time.Minute
	// firstSweep is the latest that a process looks for the first time: soon, for it may
	// not live for an interval, but not all that start at once in the same second.
	firstSweep = time.Minute
	// sweepBatch is how many keys are asked for at once.
	sweepBatch = 200
)

// sweep removes photos older than grace that no act has: what an upload that was cut
// off has left, and what could not be removed with its act.
func (p *photos) sweep(ctx context.Context, s store, now time.Time, grace time.Duration) (removed int, err error) {
	var batch []string
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		have, err := s.referenced(ctx, batch)
		if err != nil {
			return err
		}
		for _, key := range batch {
			if have[key] {
				continue
			}
			if err := p.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
				return err
			}
			removed++
		}
		batch = batch[:0]
		return nil
	}
	for _, prefix := range p.parts() {
		for it := p.bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
			o, err := it.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return removed, fmt.Errorf("list photos: %w", err)
			}
			if now.Sub(o.ModTime) < grace {
				continue
			}
			if batch = append(batch, o.Key); len(batch) == sweepBatch {
				if err := flush(); err != nil {
					return removed, err
				}
			}
		}
	}
	return removed, flush()
}

// parts are the prefixes that all photos are listed by. S3 gives a thousand at a time and
// goes on where it was; the driver of file:// walks through all that it is asked for once
// for each thousand, so that it is asked for one folder of newKey after the other.
func (p *photos) parts() []string {
	if p.dir == "" {
		return []string{""}
	}
	var folders []string
	for i := range 256 {
		folders = append(folders, fmt.Sprintf("%02x/", i))
	}
	return folders
}

// sweeps runs until ctx ends.
func (s *Service) sweeps(ctx context.Context) error {
	next := time.NewTimer(rand.N(s.firstSweep))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			next.Reset(sweepInterval)
		}
		n, err := s.photos.sweep(ctx, s.store, time.Now(), sweepGrace)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Error("photos not swept; tried again in "+sweepInterval.String(), "reason", err)
		case n > 0:
			s.log.Info("photos without an act removed", "count", n)
		}
	}
}
