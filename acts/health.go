package acts

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/sys/unix"
)

// leastRoom in a folder, in bytes: below it an upload could not be stored.
const leastRoom = 16 << 20

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
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// check whether this process can read and write what it works on.
func (s *Service) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	for _, folder := range s.folders {
		if err := s.room(folder); err != nil {
			return err
		}
	}
	return s.store.ping(ctx)
}

// room is nil where a photo would go into a folder.
func room(folder string) error {
	var x unix.Statfs_t
	if err := unix.Statfs(folder, &x); err != nil {
		return fmt.Errorf("look at %s: %w", folder, err)
	}
	if free := x.Bavail * uint64(x.Bsize); free < leastRoom {
		return fmt.Errorf("%s has only %d bytes left; at least %d are needed", folder, free, leastRoom)
	}
	return nil
}
