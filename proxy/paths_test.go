package proxy

import (
	"path"
	"strings"
	"testing"
)

// FuzzInternal: what any reading of a path makes internal is internal.
func FuzzInternal(f *testing.F) {
	for _, s := range []string{"/api/v1/_crash", "/%61pi/x/../v1//_CRASH;x", "/..", "", "/%2525", "/api/v1/_crash/..", "/api/v1/_x/../../v1/photos", "\\api\\v1\\_crash"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		readings := []string{p}
		for q := decode(p); q != readings[len(readings)-1]; q = decode(q) {
			readings = append(readings, q)
		}
		for _, q := range readings {
			for _, r := range []string{q, path.Clean("/" + q), path.Clean("/" + strings.ReplaceAll(q, "\\", "/"))} {
				if len(r) >= len(internals) && strings.EqualFold(r[:len(internals)], internals) && !internal(p) {
					t.Errorf("%q may be read as %q", p, r)
				}
			}
		}
	})
}

func TestOrdinaryPathsAreNotInternal(t *testing.T) {
	for _, p := range []string{"/", "/api/v1/photos", "/api/v1", "/api/v1/", "/api/v1/x_y", "/api/v2/_x", "/_x", "/api/v1/a%20b", "/api/v1/caf\u00e9", "/x/api/v1/_x", "/api/v1/../_x"} {
		if internal(p) {
			t.Errorf("%q is taken for internal", p)
		}
	}
}

func BenchmarkInternal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		internal("/api/v1/categories/animals/acts")
	}
}
