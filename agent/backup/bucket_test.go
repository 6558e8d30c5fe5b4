package backup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orch/scripts/local"
)

// TestBucketIsAPlace as a folder is, on a real server of S3.
func TestBucketIsAPlace(t *testing.T) {
	url, folder := local.S3(t)
	t.Run("keeps the newest", func(t *testing.T) {
		before := keepsTheNewest(t, url)
		keepsTheNewest(t, url+"&prefix=others/") // of the same cluster, though in a folder of its own
		if at, err := filepath.Glob(filepath.Join(folder, "orch-"+clusterID+"-*.snap")); err != nil || len(at) != len(before) {
			t.Errorf("without a prefix %v was kept, and with one that became %v, %v", before, at, err)
		}
		if at, err := filepath.Glob(filepath.Join(folder, "others", "orch-"+clusterID+"-*.snap")); err != nil || len(at) != len(before) {
			t.Errorf("below the prefix is %v, %v", at, err)
		}
	})
	t.Run("lists more than a page", func(t *testing.T) { manyFiles(t, url+"&prefix=many/", filepath.Join(folder, "many")) })
	t.Run("schedule", func(t *testing.T) { schedules(t, url+"&prefix=nightly/") })
	t.Run("refusals", func(t *testing.T) { refusals(t, url) })
}

// manyFiles: the server answers with at most 1000 names at a time.
func manyFiles(t *testing.T, to, folder string) {
	const files = 1003
	now := time.Now()
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		m := Meta{ClusterID: clusterID, TakenAt: now.Add(-time.Duration(i) * time.Hour)}
		if err := os.WriteFile(filepath.Join(folder, m.Name()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := OpenPlace(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Prune(t.Context(), clusterID, files-2, now); err != nil {
		t.Fatal(err)
	}
	names, err := p.List(t.Context(), clusterID, now)
	if err != nil || len(names) != files-2 || stampOf(names[len(names)-1]) != now.UTC().Format(stampLayout) {
		t.Errorf("%d files, %v", len(names), err)
	}
}

// schedules has one leader write into a place and the next one find that nothing is due.
func schedules(t *testing.T, to string) {
	p, err := OpenPlace(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var old []string
	for age := 4; age > 1; age-- {
		m := Meta{ClusterID: clusterID, TakenAt: time.Now().Add(-time.Duration(age) * time.Hour), Index: 2}
		if err := p.Put(t.Context(), m.Name(), nil); err != nil {
			t.Fatal(err)
		}
		old = append(old, m.Name())
	}
	n := &node{v: state(t)}
	later := *n.v
	later.Applied++ // so that a second file would have a name of its own
	one, next := schedule(n, to), schedule(&node{v: &later}, to)
	if err := one.turn(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := p.List(t.Context(), clusterID, time.Now())
	if err != nil || len(names) != 3 || !slices.Equal(names[:2], old[1:]) {
		t.Fatalf("of %v and one more is left %v, %v", old, names, err)
	}
	r, err := p.bucket.NewReader(t.Context(), names[2], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if m, _, err := Read(r); err != nil || m.Name() != names[2] || m.Index != n.v.Applied {
		t.Errorf("%s holds %+v, %v", names[2], m, err)
	}
	if err := next.turn(t.Context()); err != nil {
		t.Error(err)
	}
	if what, in, ok := next.Next(); !ok || in < 50*time.Minute || what != "write a snapshot file to "+to {
		t.Errorf("the next leader: %q in %s, %t", what, in, ok)
	}
	if again, err := p.List(t.Context(), clusterID, time.Now()); err != nil || !slices.Equal(again, names) {
		t.Errorf("the next leader wrote, though nothing was due: %v, %v", again, err)
	}
}

// refusals of the server are told with what it says, until it takes files again.
func refusals(t *testing.T, url string) {
	x := schedule(&node{v: state(t)}, strings.Replace(url, "s3://", "s3://no-such-", 1))
	refused := func(why string) {
		t.Helper()
		err := x.turn(t.Context())
		if reason, _ := x.Impaired(); err == nil || !strings.Contains(reason, why) || !strings.Contains(reason, x.cfg.To) {
			t.Errorf("%v, impaired %q; want %q in it", err, reason, why)
		}
	}
	refused("NoSuchBucket")
	x.cfg.To = url
	right := os.Getenv("AWS_SECRET_ACCESS_KEY")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	refused("SignatureDoesNotMatch")
	t.Setenv("AWS_SECRET_ACCESS_KEY", right)
	if err := x.turn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason, since := x.Impaired(); reason != "" {
		t.Error(fmt.Errorf("impaired %q since %s", reason, since))
	}
}
