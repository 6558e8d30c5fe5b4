package pki

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

var (
	// ErrLoose means that others could read what only this user may.
	ErrLoose = errors.New("others can read it")
	// ErrOwner means that another user could replace what only this one may.
	ErrOwner = errors.New("belongs to another user")
)

// CheckPrivate refuses a file or a folder that others can read or write.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	want := os.FileMode(0o600)
	if info.IsDir() {
		want = 0o700
	}
	if info.Mode().Perm()&^want != 0 {
		return fmt.Errorf("%s has mode %04o and %w: chmod %04o %s", path, info.Mode().Perm(), ErrLoose, want, path)
	}
	return nil
}

// CheckOwner refuses a file or a folder of another user, who may change its mode and
// replace what is in it. Root may do that anyway, and so may own it.
func CheckOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	own, uid := info.Sys().(*syscall.Stat_t).Uid, os.Geteuid() // Linux gives nothing else
	if own == 0 || int(own) == uid {
		return nil
	}
	what := path
	if info.IsDir() {
		what += " " + path + "/*"
	}
	return fmt.Errorf("%s %w (uid %d), who can replace what is in it: 'chown %d %s', or run this as that user", path, ErrOwner, own, uid, what)
}
