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

// OpenPlace opens a folder (an absolute path, made when it is missing) or a bucket
// (s3://BUCKET?region=REGION&prefix=FOLDER/; credentials come from the environment, the AWS files or
// the machine's role, never from here).
func OpenPlace(ctx context.Context, to string) (*Place, error) {
	if filepath.IsAbs(to) {
		b, err := fileblob.OpenBucket(to, &fileblob.Options{CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", to, err)
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
	if err := p.bucket.WriteAll(ctx, name, body, &blob.WriterOptions{ContentType: "application/x-tar"}); err != nil {
		return fmt.Errorf("put %s into %s: %w", name, p.url, err)
	}
	if filepath.IsAbs(p.url) { // specs are in it, and what they hold is not for others
		if err := os.Chmod(filepath.Join(p.url, name), 0o600); err != nil {
			return fmt.Errorf("put %s: %w", name, err)
		}
	}
	return nil
}

// List returns the names of a cluster's files, the oldest first.
func (p *Place) List(ctx context.Context, clusterID string) ([]string, error) {
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
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(stampOf(a), stampOf(b)) })
	return names, nil
}

func stampOf(name string) string { return nameRE.FindStringSubmatch(name)[2] }

// Newest is when the newest file of a cluster was taken; zero where there is none.
func (p *Place) Newest(ctx context.Context, clusterID string) (time.Time, error) {
	names, err := p.List(ctx, clusterID)
	if err != nil || len(names) == 0 {
		return time.Time{}, err
	}
	return time.Parse(stampLayout, stampOf(names[len(names)-1]))
}

// Prune removes the oldest files of a cluster until keep are left.
func (p *Place) Prune(ctx context.Context, clusterID string, keep int) error {
	names, err := p.List(ctx, clusterID)
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
