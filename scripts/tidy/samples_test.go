package tidy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRulesFindWhatBreaksThem: each rule, held against a small tree that breaks
// it, names the files and lines.
func TestRulesFindWhatBreaksThem(t *testing.T) {
	all, shown := rules(), map[string]bool{}
	for _, c := range []struct {
		rule  string
		files map[string]string
		want  []string // path:line of each finding
	}{
		{"folders", map[string]string{"lib/x.txt": "", ".gitignore": "/run/\n", "run/x": "", "docs/x": ""}, []string{"lib:0"}},
		{"layers", map[string]string{
			"fsm/a.go":             "package fsm\n\nimport _ \"orch/proxy\"\n",
			"agent/control/a.go":   "package control\n\nimport (\n\t_ \"orch/agent/engine\"\n\t_ \"orch/fsm\"\n)\n",
			"agent/a.go":           "package agent\n\nimport _ \"orch/agent/control\"\nimport _ \"orch/scripts/lab\"\n",
			"cmd/orchd/main.go":    "package main\n\nimport _ \"orch/agent\"\nimport _ \"orch/cmd/orchctl\"\n",
			"proxy/x_test.go":      "package proxy_test\n\nimport _ \"orch/proxy\"\n",
			"scripts/e2e/a.go":     "package e2e\n\nimport _ \"orch/scripts/lab\"\nimport _ \"orchard/x\"\n",
			"agent/worker/b/b.go":  "package b\n\nimport _ \"orch/agent/worker\"\n",
			"acts/store/a_test.go": "package store\n\nimport _ \"orch/acts\"\nimport _ \"orch/fsm\"\n",
			"acts/s3_test.go":      "package acts\n\nimport _ \"orch/scripts/local\"\n",
			"acts/s3.go":           "package acts\n\nimport _ \"orch/scripts/local\"\n",
			"scripts/local/s3.go":  "package local\n\nimport _ \"orch/fsm\"\n",
			"scripts/lab/lab.go":   "package lab\n\nimport _ \"orch/scripts/local\"\n",
		}, []string{"acts/s3.go:3", "acts/store/a_test.go:4", "agent/a.go:4", "agent/control/a.go:4", "cmd/orchd/main.go:4", "fsm/a.go:3", "scripts/lab/lab.go:3", "scripts/local/s3.go:3"}},
		{"one room a library", map[string]string{
			"agent/control/a.go":      "package control\n\nimport _ \"github.com/hashicorp/raft\"\n",
			"agent/control/b.go":      "package control\n\nimport _ \"github.com/docker/docker/client\"\n",
			"agent/consensus/a.go":    "package consensus\n\nimport _ \"github.com/hashicorp/raft\"\n",
			"agent/control/a_test.go": "package control\n\nimport _ \"github.com/hashicorp/raft\"\n",
		}, []string{"agent/control/a.go:3", "agent/control/b.go:3"}},
		{"package names", map[string]string{"agent/util/a.go": "package strs\n", "acts/b/b.go": "package common\n"}, []string{"acts/b/b.go:1", "agent/util/a.go:1"}},
		{"package comments", map[string]string{
			"fsm/a.go":      "package fsm\n",
			"fsm/b.go":      "package fsm\n",
			"proxy/a.go":    "// Proxy is one.\npackage proxy\n",
			"acts/a.go":     "// Package acts is here.\npackage acts\n",
			"acts/b.go":     "// Package acts is there.\npackage acts\n",
			"cmd/x/main.go": "// Command x runs.\npackage main\n",
		}, []string{"acts/b.go:2", "fsm/a.go:1", "proxy/a.go:1"}},
		{"banned calls", map[string]string{
			"fsm/a_test.go":    "package fsm\n\nimport \"time\"\n\nfunc a() { time.Sleep(1) }\n",
			"fsm/b_test.go":    "package fsm\n\nimport \"time\"\nimport _ \"testing/synctest\"\n\nfunc a() { time.Sleep(1) }\n",
			"agent/a.go":       "package agent\n\nimport (\n\t\"log\"\n\tsys \"os\"\n)\n\nfunc a() {\n\tlog.Fatalf(\"x\")\n\tsys.Exit(1)\n}\n",
			"agent/b.go":       "package agent\n\nimport \"fmt\"\n\nfunc b() {\n\tfmt.Println()\n\tfmt.Sprintln()\n\tprintln()\n}\n",
			"cmd/x/main.go":    "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() {\n\tfmt.Println()\n\tos.Exit(1)\n}\n\nfunc run() { os.Exit(2) }\n",
			"proxy/m_test.go":  "package proxy\n\nimport \"os\"\n\nfunc TestMain() { os.Exit(0) }\n",
			"proxy/testdata/a": "os.Exit",
		}, []string{"agent/a.go:10", "agent/a.go:9", "agent/b.go:6", "agent/b.go:8", "cmd/x/main.go:13", "fsm/a_test.go:5"}},
		{"no init", map[string]string{"fsm/a.go": "package fsm\n\nfunc init() {}\n\ntype t int\n\nfunc (t) init() {}\n"}, []string{"fsm/a.go:3"}},
		{"no iota in the command table", map[string]string{"fsm/command.go": "package fsm\n\nconst a = iota\n", "fsm/a.go": "package fsm\n\nconst b = iota\n"}, []string{"fsm/command.go:3"}},
		{"no replace", map[string]string{"go.mod": "module orch\n\nreplace a => ../a\n\nreplace (\n\tb => c v1\n)\n"}, []string{"go.mod:3", "go.mod:5", "go.mod:6"}},
		{"one propose", map[string]string{
			"agent/consensus/a.go": "package consensus\n\nimport \"github.com/hashicorp/raft\"\n\nfunc a(r *raft.Raft) {\n\tr.Apply(nil, 0)\n\tm.Apply(1, 2, nil)\n}\n",
			"agent/consensus/b.go": "package consensus\n\nimport \"github.com/hashicorp/raft\"\n\nfunc b(r *raft.Raft) { r.ApplyLog(raft.Log{}, 0) }\n",
		}, []string{"agent/consensus/a.go:6", "agent/consensus/b.go:5"}},
		{"one propose", map[string]string{"agent/consensus/a.go": "package consensus\n"}, []string{"agent/consensus:0"}},
		{"pure state", map[string]string{
			"fsm/a.go":      "package fsm\n\nimport (\n\t\"math/rand/v2\"\n\t\"net/http\"\n\t\"os\"\n\t\"time\"\n)\n\nvar now = time.Now\n\nvar d time.Duration\n\nfunc a() { go a() }\n",
			"fsm/a_test.go": "package fsm\n\nimport _ \"os\"\n",
		}, []string{"fsm/a.go:10", "fsm/a.go:14", "fsm/a.go:4", "fsm/a.go:5", "fsm/a.go:6"}},
		{"gofmt", map[string]string{"fsm/a.go": "package fsm\n\nvar  a = 1\n"}, []string{"fsm/a.go:3"}},
		{"small files", map[string]string{"fsm/a.go": "package fsm\n" + strings.Repeat("//\n", maxLines), "fsm/b.go": "package fsm\n" + strings.Repeat("//\n", maxLines-1)}, []string{fmt.Sprintf("fsm/a.go:%d", maxLines+1)}},
		{"no leftovers", map[string]string{"docs/a.md": "well\n" + "TO" + "DO: more\nXXXXXX\n" + strings.Repeat("<", 7) + " HEAD\n", "go.sum": "X" + "XX\n"}, []string{"docs/a.md:2", "docs/a.md:4"}},
		{"no paths of a machine", map[string]string{"docs/a.md": "in /var/lib/x\nsee `/" + "home/me/x`\n/" + "root/.ssh\nhttp://h/" + "work/x and ~/" + "work/y\n"}, []string{"docs/a.md:2", "docs/a.md:3"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			sample := fstest.MapFS{}
			for name, text := range c.files {
				sample[name] = &fstest.MapFile{Data: []byte(text)}
			}
			files, err := readTree(sample)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(all, func(r rule) bool { return r.name == c.rule })
			if i < 0 {
				t.Fatalf("no rule %q", c.rule)
			}
			shown[c.rule] = true
			var got []string
			for _, f := range all[i].find(files) {
				if f.todo == "" {
					t.Errorf("%s: it does not say what to do", f)
				}
				got = append(got, fmt.Sprintf("%s:%d", f.path, f.line))
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
	for _, r := range all {
		if !shown[r.name] {
			t.Errorf("rule %q has no sample that breaks it", r.name)
		}
	}
}
