package pki

import (
	"errors"
	"fmt"
	"os"
)

// ErrLoose means that others could read what only this user may.
var ErrLoose = errors.New("others can read it")

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
