package acts

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"
)

// What a folder must have at least: with less an upload could not be stored.
const (
	leastRoom  = 6 << 20 // bytes, beside the largest photo
	leastFiles = 64      // that can be made; each photo, body on its way and log of SQLite is one
)

// health answers within healthTimeout, whatever hangs. A disk that hangs does so in the
// kernel, where nothing ends it: all who ask meanwhile wait for the one check.
func (s *Service) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	outcome := s.checking.DoChan("", func() (any, error) { return nil, s.check() })
	var err error
	select {
	case x := <-outcome:
		err = x.Err
	case <-ctx.Done():
		err = fmt.Errorf("no answer from the database or a disk within %s", healthTimeout)
	}
	if err != nil && r.Context().Err() == nil {
		s.log.Error("not healthy", "reason", err)
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "this container can not use its database, or has no room for photos; ask another one, and see its log for the reason")
	}
}

// check whether this process can read and write what it works on.
func (s *Service) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	for _, folder := range s.folders {
		if err := s.room(folder, s.maxPhoto); err != nil {
			return err
		}
	}
	return s.store.ping(ctx)
}

// room is nil where a photo of so many bytes would go into a folder.
func room(folder string, photo int64) error {
	var x unix.Statfs_t
	if err := unix.Statfs(folder, &x); err != nil {
		return fmt.Errorf("look at %s: %w", folder, err)
	}
	if free, least := x.Bavail*uint64(x.Bsize), uint64(photo)+leastRoom; free < least {
		return fmt.Errorf("%s has only %d bytes left; at least %d are needed", folder, free, least)
	}
	if x.Files > 0 && x.Ffree < leastFiles { // a file system that makes inodes as it needs them says 0
		return fmt.Errorf("%s has room for %d more files only, whatever their size (df -i); at least %d are needed", folder, x.Ffree, leastFiles)
	}
	return nil
}
