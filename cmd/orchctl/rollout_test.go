package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"orch/fsm"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// running has acts with a good revision and one container.
func running(t *testing.T) *leader {
	t.Helper()
	l := served(t)
	write(t, "one.yaml", "name: acts\nimage: acts:1\n")
	write(t, "two.yaml", "name: acts\nimage: acts:2\nenv: {KEY: hunter2}\n")
	must(t, "apply", "-f", "one.yaml")
	for _, c := range []fsm.Command{
		fsm.Place{Service: "acts", Number: 1, Node: "n1", Port: 8000},
		fsm.EndRollout{Service: "acts", Revision: 1, Outcome: fsm.Good, Reason: "1 containers"},
	} {
		if _, err := l.ProposeHere(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func image(l *leader) string {
	sv, _ := l.View().Service("acts")
	return sv.Spec.Image
}

// TestApplyAsks before it changes what runs, and says how to go on where nobody can be
// asked.
func TestApplyAsks(t *testing.T) {
	l := running(t)
	out, err := ctl(t, "apply", "-f", "two.yaml")
	if err == nil || !strings.Contains(err.Error(), "--yes") || image(l) != "acts:1" {
		t.Errorf("without a yes: %v, image %s", err, image(l))
	}
	for _, want := range []string{"revision 1 becomes 2", "image:", "acts:1", "acts:2", "env.KEY:", "acts/2", "stand-in", "acts/1", "8000", "renew"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hunter2") {
		t.Errorf("it shows a value of the environment:\n%s", out)
	}
	if out := must(t, "apply", "-f", "two.yaml", "--dry-run"); !strings.Contains(out, "renew") || image(l) != "acts:1" {
		t.Errorf("dry run: image %s\n%s", image(l), out)
	}
	if out := must(t, "apply", "-f", "two.yaml", "--yes", "--why", "release 2"); !strings.Contains(out, "service acts applied") || image(l) != "acts:2" {
		t.Errorf("with a yes: image %s\n%s", image(l), out)
	}
	if out := must(t, "apply", "-f", "two.yaml"); !strings.Contains(out, "nothing changes") {
		t.Errorf("again:\n%s", out)
	}
	out = must(t, "apply", "-f", "two.yaml", "--force", "--yes", "-o", "json")
	var plans []applied
	if err := json.Unmarshal([]byte(out), &plans); err != nil || len(plans) != 1 || !plans[0].Applied || plans[0].Revision != 3 {
		t.Errorf("by force: %v\n%s", err, out)
	}
	if out, err := ctl(t, "apply", "-f", "one.yaml", "-o", "json"); err == nil || json.Unmarshal([]byte(out), &plans) != nil || plans[0].Applied {
		t.Errorf("as JSON without a yes: %v\n%s", err, out)
	}
}

// TestApplyWaits for the end of the roll-out, and fails where that is not a good one.
func TestApplyWaits(t *testing.T) {
	l := running(t)
	end := func(revision uint64, outcome fsm.Outcome) {
		poke, stop := l.Subscribe()
		defer stop()
		for {
			if sv, _ := l.View().Service("acts"); sv.Newest().Number == revision {
				break
			}
			<-poke
		}
		if _, err := l.ProposeHere(t.Context(), fsm.EndRollout{Service: "acts", Revision: revision, Outcome: outcome, Reason: "exit code 1"}); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); end(2, fsm.Good); end(3, fsm.Failed) }()
	must(t, "apply", "-f", "two.yaml", "--yes", "--wait", "30s")
	if _, err := ctl(t, "apply", "-f", "one.yaml", "--yes", "--wait", "30s"); err == nil || !strings.Contains(err.Error(), "revision 3 is failed: exit code 1") {
		t.Errorf("a roll-out that failed: %v", err)
	}
	<-done
	if _, err := ctl(t, "apply", "-f", "two.yaml", "--yes", "--wait", "20ms"); err == nil || !strings.Contains(err.Error(), "--wait") {
		t.Errorf("a roll-out that does not end: %v", err)
	}
}

func TestHistoryAndBack(t *testing.T) {
	l := running(t)
	must(t, "apply", "-f", "two.yaml", "--yes", "--why", "release 2")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"history acts", []string{"REVISION", "acts:2", "rolling", "release 2", "good", "operator"}},
		{"history acts -o json", []string{`"revision": 2`, `"outcome": "rolling"`, `"key": "image"`}},
		{"rollback acts --why slow", []string{"goes back from revision 2 to what 1 was"}},
		{"history acts -o json", []string{`"from": 1`, `"why": "slow"`, `"outcome": "replaced"`}},
		{"restart acts", []string{"begin anew"}},
		{"drain n1 --deadline 5m", []string{"node n1 drains", "orchctl undrain n1"}},
		{"undrain n1 -o json", []string{`"undrained": "n1"`}},
	} {
		out := must(t, strings.Fields(c.args)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("orchctl %s: no %q in\n%s", c.args, want, out)
			}
		}
	}
	if image(l) != "acts:1" {
		t.Errorf("image %s", image(l))
	}
	for args, want := range map[string]string{
		"rollback acts --to 77":   "orchctl history acts",
		"history nothing":         "orchctl status",
		"drain n1 --deadline 0s":  "--deadline",
		"drain n9":                "orchctl nodes",
		"drain n1 --deadline 48h": "24h",
	} {
		if _, err := ctl(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("orchctl %s: %v, want %q", args, err, want)
		}
	}
}
