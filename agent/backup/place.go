package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // the scheme s3://
)

// Place is a folder or a bucket that files are put into. It touches only files of
// its own names.
type Place struct {
	bucket *blob.Bucket
	url    string
}

// ErrPlace means that a place is named wrongly.
var ErrPlace = errors.New("not a place for snapshots")

// OpenPlace opens a folder (an absolute path, made when it is missing, which nobody else
// may write to) or a bucket (s3://BUCKET?region=REGION&prefix=FOLDER/; credentials come from the environment, the AWS files or
// the machine's role, never from here).
func OpenPlace(ctx context.Context, to string) (*Place, error) {
	if filepath.IsAbs(to) {
		b, err := fileblob.OpenBucket(to, &fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", to, err)
		}
		if err := ownFolder(to); err != nil {
			b.Close()
			return nil, err
		}
		return &Place{b, to}, nil
	}
	if err := CheckPlace(to); err != nil {
		return nil, err
	}
	b, err := blob.OpenBucket(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", to, err)
	}
	return &Place{b, to}, nil
}

// ownFolder refuses a folder in which others could put files in the place of ours: the
// owner of one may do so whatever its mode. What they may list there is names: the files
// themselves are for this user alone.
func ownFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	own, uid := info.Sys().(*syscall.Stat_t).Uid, os.Geteuid() // Linux gives nothing else
	if own != 0 && int(own) != uid {
		return fmt.Errorf("%w: %s belongs to another user (uid %d), who can replace what is in it: run 'chown %d %s', or choose another folder", ErrPlace, dir, own, uid, dir)
	}
	if mode := info.Mode(); mode.Perm()&0o022 != 0 && mode&os.ModeSticky == 0 {
		return fmt.Errorf("%w: others may write to %s (mode %04o): run 'chmod go-w %s'", ErrPlace, dir, mode.Perm(), dir)
	}
	return nil
}

// CheckPlace says what is wrong with the name of a place.
func CheckPlace(to string) error {
	if filepath.IsAbs(to) {
		return nil
	}
	if u, err := url.Parse(to); err == nil && u.Scheme == "s3" && u.Host != "" && u.User == nil {
		return nil
	}
	return fmt.Errorf("%w: %q: give the absolute path of a folder, or s3://BUCKET?region=REGION", ErrPlace, to)
}

// Close lets go of it.
func (p *Place) Close() error { return p.bucket.Close() }

// stampLayout sorts as time does.
const stampLayout = "20060102T150405Z"

var nameRE = regexp.MustCompile(`^orch-([0-9a-f]{1,64})-([0-9]{8}T[0-9]{6}Z)-([0-9]+)\.snap$`)

// Name is what a file is called in a place.
func (m Meta) Name() string {
	return fmt.Sprintf("orch-%s-%s-%d.snap", m.ClusterID, m.TakenAt.UTC().Format(stampLayout), m.Index)
}

// Put stores a file as a whole or not at all.
func (p *Place) Put(ctx context.Context, name string, body []byte) error {
	err := error(nil)
	if filepath.IsAbs(p.url) {
		err = putFile(p.url, name, body)
	} else {
		err = p.bucket.WriteAll(ctx, name, body, &blob.WriterOptions{ContentType: "application/x-tar"})
	}
	if err != nil {
		return fmt.Errorf("put %s into %s: %w", name, p.url, err)
	}
	return nil
}

// putFile writes a file that is this user's alone from its first byte on: specs are in it,
// and what they hold is not for others. The bucket's own writer goes by the umask.
func putFile(dir, name string, body []byte) error {
	cut, err := filepath.Glob(filepath.Join(dir, ".orch-*.snap-*.tmp")) // of a writer that was cut off
	if err != nil {
		return err
	}
	for _, old := range cut {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(dir, "."+name+"-*.tmp") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxAhead is how far the clock of another node may be ahead. A file that is dated later
// than that was named by a clock that was wrong, and says nothing of its age.
const maxAhead = 5 * time.Minute

// List returns the names of a cluster's files, the oldest first; those that are dated in
// the future of now go before all others.
func (p *Place) List(ctx context.Context, clusterID string, now time.Time) ([]string, error) {
	var names []string
	for it := p.bucket.List(&blob.ListOptions{Prefix: "orch-" + clusterID + "-"}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", p.url, err)
		}
		if m := nameRE.FindStringSubmatch(o.Key); m != nil && m[1] == clusterID {
			names = append(names, o.Key)
		}
	}
	limit := now.Add(maxAhead).UTC().Format(stampLayout)
	slices.SortFunc(names, func(a, b string) int {
		x, y := stampOf(a), stampOf(b)
		if late := x > limit; late != (y > limit) {
			if late {
				return -1
			}
			return 1
		}
		return strings.Compare(x, y)
	})
	return names, nil
}

func stampOf(name string) string { return nameRE.FindStringSubmatch(name)[2] }

// Newest is when the newest file of a cluster was taken that is not dated in the future;
// zero where there is none.
func (p *Place) Newest(ctx context.Context, clusterID string, now time.Time) (time.Time, error) {
	names, err := p.List(ctx, clusterID, now)
	if err != nil || len(names) == 0 {
		return time.Time{}, err
	}
	at, err := time.Parse(stampLayout, stampOf(names[len(names)-1]))
	if at.After(now.Add(maxAhead)) {
		at = time.Time{}
	}
	return at, err
}

// Prune removes the oldest files of a cluster until keep are left.
func (p *Place) Prune(ctx context.Context, clusterID string, keep int, now time.Time) error {
	names, err := p.List(ctx, clusterID, now)
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-keep)] {
		if err := p.bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("remove %s from %s: %w", name, p.url, err)
		}
	}
	return nil
}
