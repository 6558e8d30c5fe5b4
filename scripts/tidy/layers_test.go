package tidy

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// topFolders are the rooms of the house; docs/architecture.md says what each is for.
var topFolders = []string{"cmd", "fsm", "proxy", "agent", "acts", "deploy", "scripts", "docs", ".ci", ".github"}

func folders(t *tree) (found []finding) {
	for _, f := range t.folders {
		if !slices.Contains(topFolders, f) {
			found = append(found, finding{f, 0, "a new folder at the top; put it below one of " + strings.Join(topFolders, ", ")})
		}
	}
	return found
}

// servers is what the tests of every room may use, and tests alone: it starts programs of
// others and imports nothing of ours.
const servers = "scripts/local"

// room is the part of the tree within which packages import each other freely: a
// top folder, and below agent/ and cmd/ each folder of its own.
func room(dir string) string {
	if below(dir, servers) {
		return servers
	}
	parts := strings.Split(dir, "/")
	if len(parts) > 1 && (parts[0] == "agent" || parts[0] == "cmd") {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// mayImport are the other rooms of ours that a room may use.
func mayImport(from string) []string {
	switch {
	case strings.HasPrefix(from, "agent/"):
		return []string{"fsm"}
	case from == "agent":
		return []string{"fsm", "proxy", "agent"}
	case strings.HasPrefix(from, "cmd/"):
		return []string{"fsm", "proxy", "agent", "acts"}
	case from == "scripts":
		return []string{"fsm", "proxy", "agent", "acts"}
	}
	return nil
}

func layers(t *tree) (found []finding) {
	for _, f := range t.goFiles {
		f.imports(func(from string, at *ast.ImportSpec) {
			if !below(from, module) {
				return
			}
			own, theirs := room(f.dir), strings.TrimPrefix(from, module+"/")
			if room(theirs) == own || f.test && room(theirs) == servers || slices.ContainsFunc(mayImport(own), func(r string) bool { return below(theirs, r) }) {
				return
			}
			allowed := strings.Join(mayImport(own), ", ")
			if allowed == "" {
				allowed = "nothing of ours"
			}
			found = append(found, f.at(at, "%s may import %s, not %s; declare the interface you need and let agent or cmd pass it in", own, allowed, theirs))
		})
	}
	return found
}

// libraries stay behind one package each, so that to replace one is to change one.
func libraries(t *tree) (found []finding) {
	home := map[string]string{
		"github.com/hashicorp/raft":        "agent/consensus",
		"github.com/hashicorp/raft-boltdb": "agent/consensus",
		"go.etcd.io/bbolt":                 "agent/consensus",
		"github.com/hashicorp/memberlist":  "agent/membership",
		"github.com/docker/docker":         "agent/engine",
		"github.com/spf13/cobra":           "cmd",
	}
	for _, f := range t.goFiles {
		if f.test || below(f.dir, "scripts") {
			continue
		}
		f.imports(func(from string, at *ast.ImportSpec) {
			for library, only := range home {
				if below(from, library) && !below(f.dir, only) {
					found = append(found, f.at(at, "%s is for %s alone; ask that package for what you need", library, only))
				}
			}
		})
	}
	return found
}

func packageNames(t *tree) (found []finding) {
	vague := []string{"util", "utils", "common", "types", "internal", "pkg", "helper", "helpers", "misc", "shared"}
	seen := map[string]bool{}
	for _, f := range t.goFiles {
		if seen[f.dir] {
			continue
		}
		seen[f.dir] = true
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains(vague, name) || slices.ContainsFunc(strings.Split(f.dir, "/"), func(s string) bool { return slices.Contains(vague, s) }) {
			found = append(found, f.at(f.ast.Name, "the name of %s says nothing; name it for what it holds, or put it beside its first user", f.dir))
		}
	}
	return found
}

// packageComments: "Package x …", "Command x …" for a program, in one file alone.
func packageComments(t *tree) (found []finding) {
	first := map[string]goFile{}
	comment := map[string]goFile{}
	for _, f := range t.goFiles {
		if strings.HasSuffix(f.ast.Name.Name, "_test") {
			continue
		}
		if was, ok := first[f.dir]; !ok || was.test && !f.test {
			first[f.dir] = f
		}
		if f.ast.Doc == nil {
			continue
		}
		if other, ok := comment[f.dir]; ok {
			found = append(found, f.at(f.ast.Name, "%s has the package comment already; keep one", other.path))
		}
		comment[f.dir] = f
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command " + path.Base(f.dir) + " "
		}
		if !strings.HasPrefix(f.ast.Doc.Text(), want) {
			found = append(found, f.at(f.ast.Doc, "begin the package comment with %q", want))
		}
	}
	for _, f := range t.goFiles {
		if _, ok := comment[f.dir]; !ok && f.path == first[f.dir].path {
			found = append(found, f.at(f.ast.Name, "package %s has no comment; say what it owns, promises and never does", f.dir))
		}
	}
	return found
}
