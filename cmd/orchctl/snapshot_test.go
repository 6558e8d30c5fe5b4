package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"orch/fsm"
)

func TestSnapshotSaveInspectRestore(t *testing.T) {
	l := served(t)
	for _, c := range []fsm.Command{
		fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()},
		fsm.ScaleByHand{Service: "acts", Count: 4},
		fsm.PutService{Spec: fsm.Spec{Name: "users", Image: "acts:1", Routes: []string{"/api/v1/users"}, PortBase: 8100}.WithDefaults()},
	} {
		if _, err := l.ProposeHere(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if out := must(t, "snapshot", "save", "monday.snap"); !strings.Contains(out, "monday.snap: cluster c1, term 1, index 5") {
		t.Errorf("save: %s", out)
	}
	if info, err := os.Stat("monday.snap"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := ctl(t, "snapshot", "save", "monday.snap"); err == nil || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("a file that is there: %v", err)
	}
	var c contents
	if err := json.Unmarshal([]byte(must(t, "snapshot", "inspect", "monday.snap", "-o", "json")), &c); err != nil || len(c.Services) != 2 || c.Services[0].Scale != "4 by hand" || c.Index != 5 {
		t.Errorf("inspect: %+v, %v", c, err)
	}

	// One is lost, the other is changed.
	for _, c := range []fsm.Command{fsm.RemoveService{Name: "users"}, fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts:2"}.WithDefaults()}, fsm.ScaleByHand{Service: "acts"}} {
		if _, err := l.ProposeHere(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ctl(t, "snapshot", "restore", "monday.snap"); err == nil || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("restored without a question: %v", err)
	}
	if s, _ := l.View().Service("acts"); s.Spec.Image != "acts:2" {
		t.Error("and it was done")
	}
	out := must(t, "snapshot", "restore", "monday.snap", "--yes")
	for _, want := range []string{"acts      change   acts:1", "users     add      acts:1", "2 services restored"} {
		if !strings.Contains(out, want) {
			t.Errorf("restore: no %q in\n%s", want, out)
		}
	}
	if s, _ := l.View().Service("acts"); s.Spec.Image != "acts:1" || s.Manual != 4 {
		t.Errorf("acts is %+v", s)
	}
	if s, ok := l.View().Service("users"); !ok || s.Spec.Routes[0] != "/api/v1/users" {
		t.Errorf("users is %+v", s)
	}
	if out := must(t, "snapshot", "restore", "monday.snap", "--yes"); !strings.Contains(out, "0 services restored") {
		t.Errorf("twice is not once:\n%s", out)
	}
}

func TestSnapshotRefusals(t *testing.T) {
	l := served(t)
	if err := os.WriteFile("broken.snap", []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"inspect", "restore"} {
		if _, err := ctl(t, "snapshot", verb, "broken.snap"); err == nil || !strings.Contains(err.Error(), "broken.snap: not a snapshot file") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	l.mu.Lock()
	l.leads = false
	l.mu.Unlock()
	if _, err := ctl(t, "snapshot", "save", "x.snap"); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("without a leader: %v", err)
	}
	if _, err := os.Stat("x.snap"); err == nil {
		t.Error("and a file is there")
	}
	must(t, "snapshot", "save", "--stale", "x.snap")
}

func TestRemoveForgetsANode(t *testing.T) {
	l := served(t)
	if out := must(t, "remove", "n1"); !strings.Contains(out, "node n1 is removed") || !strings.Contains(out, "node n7 has not confirmed within 1 s; it refuses as soon as it hears of it") || len(l.View().Nodes) != 0 {
		t.Errorf("%s, nodes %+v", out, l.View().Nodes)
	}
	if _, err := ctl(t, "remove", "n1"); err == nil || !strings.Contains(err.Error(), "orchctl nodes") {
		t.Errorf("twice: %v", err)
	}
}
