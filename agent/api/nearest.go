package api

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"orch/fsm"
)

// maxTypos is how far from a known key an unknown one may be to be taken for it: a
// letter or two wrong.
const maxTypos = 2

// nearest says which key was probably meant: one of known (then also by itself), one
// that belongs elsewhere, or else any of those there are.
func nearest(key string, known map[string]int) (hint, meant string) {
	all := slices.Sorted(maps.Keys(known))
	if home, ok := home(key); ok {
		return home, ""
	}
	least := maxTypos + 1
	for _, k := range all {
		if d := distance(key, k); d < least && d < len(k) {
			meant, least = k, d
		}
	}
	if meant != "" {
		return fmt.Sprintf("did you mean %q?", meant), meant
	}
	return "known are " + strings.Join(all, ", "), ""
}

// home says where a key that is right in another place belongs.
func home(key string) (string, bool) {
	spec := reflect.TypeFor[fsm.Spec]()
	top := keysOf(spec)
	if _, ok := top[key]; ok {
		return fmt.Sprintf("%q belongs at the left margin, beside name:", key), true
	}
	for _, group := range slices.Sorted(maps.Keys(top)) {
		t := spec.Field(top[group]).Type
		if t.Kind() != reflect.Struct {
			continue
		}
		if _, ok := keysOf(t)[key]; ok {
			return fmt.Sprintf("%q belongs below %s:", key, group), true
		}
	}
	return "", false
}

// distance is how many letters must be put in, left out, changed or swapped with the
// next to make b of a (optimal string alignment), over bytes; both are short.
func distance(a, b string) int {
	if len(a) > 2*maxShown {
		return len(a)
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
