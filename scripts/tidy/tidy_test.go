// Package tidy holds the test that keeps the shape of this repository: who may
// import whom, which calls have no place where, that each package says what it is
// for, and that nothing of its making is left in it.
//
// It promises that a finding names the file, the line and what to do instead. It
// reads the tree it stands in and nothing else, and it never changes a file.
package tidy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// rule finds what breaks one habit of this repository.
type rule struct {
	name string
	find func(*tree) []finding
}

// finding is one place that breaks a rule. Line 0 is the file or folder as a whole.
type finding struct {
	path string
	line int
	todo string
}

func (f finding) String() string {
	if f.line == 0 {
		return fmt.Sprintf("%s: %s", f.path, f.todo)
	}
	return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.todo)
}

// rules are all of them. Each has a sample in samples_test.go that breaks it.
func rules() []rule {
	return []rule{
		{"folders", folders},
		{"layers", layers},
		{"one room a library", libraries},
		{"package names", packageNames},
		{"package comments", packageComments},
		{"banned calls", bannedCalls},
		{"no init", noInit},
		{"no iota in the command table", noIota},
		{"no replace", noReplace},
		{"one propose", onePropose},
		{"pure state", pureState},
		{"gofmt", formatted},
		{"small files", smallFiles},
		{"no leftovers", noLeftovers},
		{"no paths of a machine", noMachinePaths},
	}
}

// TestTidy holds every rule against this repository.
func TestTidy(t *testing.T) {
	top, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	files, err := readTree(os.DirFS(top))
	if err != nil {
		t.Fatal(err)
	}
	if len(files.goFiles) < 50 || len(files.texts) < len(files.goFiles) {
		t.Fatalf("%s: %d Go files of %d files: this is not the repository", top, len(files.goFiles), len(files.texts))
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range r.find(files) {
				t.Error(f)
			}
		})
	}
}

// repository is the nearest folder above this test that holds go.mod.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", fmt.Errorf("find the repository: no go.mod above this test")
		}
		dir = above
	}
}
