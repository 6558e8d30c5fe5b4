package tidy

import (
	"bytes"
	"fmt"
	"go/format"
	"iter"
	"path"
	"regexp"
	"strings"
)

// maxLines is the longest a Go file may be: three times the usual 120, and some.
const maxLines = 450

// lines yields each line with its number, from 1.
func lines(b []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			if !yield(n, strings.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}

func formatted(t *tree) (found []finding) {
	for _, f := range t.texts {
		if !strings.HasSuffix(f.path, ".go") {
			continue
		}
		want, err := format.Source(f.data)
		switch {
		case err != nil:
			found = append(found, finding{f.path, 0, fmt.Sprintf("it does not parse: %v", err)})
		case !bytes.Equal(want, f.data):
			found = append(found, finding{f.path, firstDifference(f.data, want), "run gofmt -w on it"})
		}
	}
	return found
}

// firstDifference is the line at which a and b part.
func firstDifference(a, b []byte) int {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range x {
		if i >= len(y) || !bytes.Equal(x[i], y[i]) {
			return i + 1
		}
	}
	return len(x)
}

func smallFiles(t *tree) (found []finding) {
	for _, f := range t.texts {
		if n := bytes.Count(f.data, []byte("\n")); strings.HasSuffix(f.path, ".go") && n > maxLines {
			found = append(found, finding{f.path, maxLines + 1, fmt.Sprintf("%d lines; split it by noun, %d are the most", n, maxLines)})
		}
	}
	return found
}

// leftover matches the marks of unfinished work. It is put together so that it
// does not find itself.
var leftover = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b|^(<{7}|={7}|>{7})( |$)`)

func noLeftovers(t *tree) []finding {
	return grep(t, leftover, "unfinished work; finish it, or say what is missing in docs")
}

// machinePath matches absolute paths of the machine that somebody works on.
var machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_.~/-])/(home|root|Users|work|workspace|builds)/[A-Za-z0-9_.]`)

func noMachinePaths(t *tree) []finding {
	return grep(t, machinePath, "a path of one machine; write it relative to the repository, or take it as a flag")
}

func grep(t *tree, re *regexp.Regexp, todo string) (found []finding) {
	for _, f := range t.texts {
		if path.Base(f.path) == "go.sum" {
			continue
		}
		for n, line := range lines(f.data) {
			if m := re.FindString(line); m != "" {
				found = append(found, finding{f.path, n, fmt.Sprintf("%q: %s", strings.TrimSpace(m), todo)})
			}
		}
	}
	return found
}
