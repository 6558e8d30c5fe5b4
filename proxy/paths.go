package proxy

import "strings"

// internals is where a service's own paths begin.
const internals = "/api/v1/_"

// internal says whether a path, as it was sent or decoded, is of the service's internals
// to any server that might come to read it.
func internal(p string) bool {
	if ordinary(p) {
		return len(p) >= len(internals) && strings.EqualFold(p[:len(internals)], internals)
	}
	return passesInternals(p)
}

// ordinary says that a path has nothing in it that servers read in different ways.
func ordinary(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c == '%', c == ';', c == '\\', c >= 0x80:
			return false
		case (c == '/' || c == '.') && i > 0 && p[i-1] == '/':
			return false
		}
	}
	return true
}

// passesInternals walks a path as any server might: decoded as often as it can be, in
// any case, without empty, dot and parameter segments. It says whether the walk comes by
// the internals, also when it leaves them again: a server that does not resolve what
// follows them, as in /api/v1/_crash/.., stays there.
func passesInternals(p string) bool {
	for layer := 0; ; layer++ {
		next := decode(p)
		if next == p {
			break
		}
		if p = next; layer == maxDecodes {
			return true // nobody encodes so often who has nothing to hide
		}
	}
	var at []string
	for s := range strings.SplitSeq(strings.ReplaceAll(p, "\\", "/"), "/") {
		s, _, _ = strings.Cut(s, ";")
		switch s {
		case "", ".":
		case "..":
			at = at[:max(len(at)-1, 0)]
		default:
			at = append(at, s)
			if internal := "/" + strings.Join(at, "/"); len(at) == internalDepth && strings.EqualFold(internal[:min(len(internals), len(internal))], internals) {
				return true
			}
		}
	}
	return false
}

const (
	maxDecodes    = 8 // more layers of percent-encoding than any chain of servers undoes
	internalDepth = 3 // segments of internals
)

// decode undoes percent-encoding, and leaves what is not well encoded as it is.
func decode(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) && unhex(p[i+1]) >= 0 && unhex(p[i+2]) >= 0 {
			b.WriteByte(byte(unhex(p[i+1])<<4 | unhex(p[i+2])))
			i += 2
			continue
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// counts says whether a request that is not internal counts for scaling: those for the
// API, but for what the spec leaves out.
func counts(s *service, path string) bool {
	if !strings.HasPrefix(path, "/api/") {
		return false
	}
	for _, u := range s.Uncounted {
		if strings.HasPrefix(path, u) {
			return false
		}
	}
	return true
}
