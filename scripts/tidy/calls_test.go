package tidy

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// bannedCalls are functions that are wrong here, each with its exception.
func bannedCalls(t *tree) (found []finding) {
	for _, f := range t.goFiles {
		bubble := f.test && slices.ContainsFunc(f.ast.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"testing/synctest"` })
		program := f.ast.Name.Name == "main"
		prints := below(f.dir, "cmd") || below(f.dir, "scripts")
		f.calls(func(pkg, name string, call *ast.CallExpr, within string) {
			switch {
			case pkg == "time" && name == "Sleep" && !bubble:
				found = append(found, f.at(call, "time.Sleep settles nothing; wait for the condition with a deadline, or test in a testing/synctest bubble"))
			case pkg == "log" && (strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic")):
				found = append(found, f.at(call, "log.%s ends the process below its owner; return an error", name))
			case pkg == "os" && name == "Exit" && !(program && within == "main") && !(f.test && within == "TestMain"):
				found = append(found, f.at(call, "os.Exit belongs in main and TestMain; return an error"))
			case !prints && (pkg == "fmt" && strings.HasPrefix(name, "Print") || pkg == "" && (name == "print" || name == "println")):
				found = append(found, f.at(call, "%s writes behind the caller's back; log with the logger that was passed in, or write to an io.Writer", name))
			}
		})
	}
	return found
}

func noInit(t *tree) (found []finding) {
	for _, f := range t.goFiles {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, f.at(fn, "init has effects that nobody asked for; make it a function that main calls"))
			}
		}
	}
	return found
}

func noIota(t *tree) (found []finding) {
	for _, f := range t.goFiles {
		if f.path != "fsm/command.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == "iota" {
				found = append(found, f.at(id, "number commands by hand; a line put between must not renumber the log"))
			}
			return true
		})
	}
	return found
}

func noReplace(t *tree) (found []finding) {
	for _, f := range t.texts {
		if f.path != "go.mod" {
			continue
		}
		for n, line := range lines(f.data) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word == "replace" || strings.Contains(line, "=>") {
				found = append(found, finding{f.path, n, "use the released module; a replace is not seen by those who install from here"})
			}
		}
	}
	return found
}

// onePropose: raft.Apply and its kin take two arguments; ours take others.
func onePropose(t *tree) (found []finding) {
	var places []finding
	for _, f := range t.goFiles {
		if f.test || !slices.ContainsFunc(f.ast.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"github.com/hashicorp/raft"` }) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && (s.Sel.Name == "Apply" || s.Sel.Name == "ApplyLog") {
				places = append(places, f.at(call, "raft.%s is called in Propose alone, where its perhaps is told from its no; call that", s.Sel.Name))
			}
			return true
		})
	}
	if len(places) == 1 && strings.HasPrefix(places[0].path, "agent/consensus/") {
		return nil
	}
	if len(places) == 0 {
		return []finding{{"agent/consensus", 0, "nothing calls raft.Apply: mend this rule if it has another name now"}}
	}
	return places
}

// pureState: what fsm computes depends on the log alone.
func pureState(t *tree) (found []finding) {
	outside := []string{"os", "net", "math/rand", "crypto/rand", "log", "syscall", "runtime", "unsafe"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}
	for _, f := range t.goFiles {
		if f.test || !below(f.dir, "fsm") {
			continue
		}
		f.imports(func(from string, at *ast.ImportSpec) {
			if slices.ContainsFunc(outside, func(p string) bool { return below(from, p) }) {
				found = append(found, f.at(at, "the state may not depend on %s; let the proposer look and put it into the command", from))
			}
		})
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				found = append(found, f.at(n, "the state starts nothing; poke a subscriber"))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && f.names[x.Name] == "time" && slices.Contains(clock, n.Sel.Name) {
					found = append(found, f.at(n, "the state has no clock; use the stamp of the command"))
				}
			case *ast.GenDecl:
				if n.Tok == token.IMPORT {
					return false
				}
			}
			return true
		})
	}
	return found
}
