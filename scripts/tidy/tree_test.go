package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the name that our own import paths begin with.
const module = "orch"

// tree is a repository as the rules see it, sorted by path. What .gitignore names
// at the top is no part of it.
type tree struct {
	folders []string // at the top
	texts   []textFile
	goFiles []goFile // testdata aside: the Go tool does not build it
}

// textFile is a file without zero bytes.
type textFile struct {
	path string
	data []byte
}

// goFile is a parsed Go file.
type goFile struct {
	textFile
	dir   string // of its package
	test  bool
	set   *token.FileSet
	ast   *ast.File
	names map[string]string // local name of each import → its path
}

func readTree(top fs.FS) (*tree, error) {
	t := &tree{}
	ignored := ignoredAtTop(top)
	err := fs.WalkDir(top, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == ".":
			return nil
		case d.IsDir() && (p == ".git" || slices.Contains(ignored, p)):
			return fs.SkipDir
		case d.IsDir():
			if !strings.Contains(p, "/") {
				t.folders = append(t.folders, p)
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		return t.read(top, p)
	})
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	return t, nil
}

// ignoredAtTop are the folders that .gitignore names as /name/.
func ignoredAtTop(top fs.FS) []string {
	b, _ := fs.ReadFile(top, ".gitignore")
	var names []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") && strings.HasSuffix(line, "/") {
			names = append(names, strings.Trim(line, "/"))
		}
	}
	return names
}

func (t *tree) read(top fs.FS, p string) error {
	data, err := fs.ReadFile(top, p)
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil
	}
	text := textFile{p, data}
	t.texts = append(t.texts, text)
	if !strings.HasSuffix(p, ".go") || slices.Contains(strings.Split(p, "/"), "testdata") {
		return nil
	}
	f := goFile{textFile: text, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), set: token.NewFileSet(), names: map[string]string{}}
	f.ast, err = parser.ParseFile(f.set, p, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, s := range f.ast.Imports {
		from, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			return err
		}
		name := path.Base(from)
		if s.Name != nil {
			name = s.Name.Name
		} else if name == "v2" { // math/rand/v2 and its like
			name = path.Base(path.Dir(from))
		}
		f.names[name] = from
	}
	t.goFiles = append(t.goFiles, f)
	return nil
}

func (f goFile) at(n ast.Node, format string, args ...any) finding {
	return finding{f.path, f.set.Position(n.Pos()).Line, fmt.Sprintf(format, args...)}
}

// imports are the paths a file imports, with where.
func (f goFile) imports(yield func(from string, at *ast.ImportSpec)) {
	for _, s := range f.ast.Imports {
		from, _ := strconv.Unquote(s.Path.Value)
		yield(from, s)
	}
}

// calls visits each call of a function of a package, as import path and name, with
// the top-level function it stands in.
func (f goFile) calls(visit func(pkg, name string, call *ast.CallExpr, within string)) {
	for _, d := range f.ast.Decls {
		within := ""
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
			within = fn.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				visit("", fun.Name, call, within)
			case *ast.SelectorExpr:
				if x, ok := fun.X.(*ast.Ident); ok {
					visit(f.names[x.Name], fun.Sel.Name, call, within)
				} else {
					visit("", "."+fun.Sel.Name, call, within)
				}
			}
			return true
		})
	}
}

// below says whether a path is dir or in it.
func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
