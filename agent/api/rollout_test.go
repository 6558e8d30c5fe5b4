package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"orch/fsm"
)

// good marks the newest revision of acts as good.
func good(t *testing.T, n *one) {
	t.Helper()
	sv, _ := n.View().Service("acts")
	if _, err := n.ProposeHere(t.Context(), fsm.EndRollout{Service: "acts", Revision: sv.Newest().Number, Outcome: fsm.Good}); err != nil {
		t.Fatal(err)
	}
}

func actions(p Plan) string {
	var out []string
	for _, r := range p.Rows {
		out = append(out, fmt.Sprintf("%d:%s", r.Number, r.Action))
	}
	return strings.Join(out, " ")
}

func TestPlanOf(t *testing.T) {
	n, _ := leading(t)
	base := fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()
	with := func(f func(*fsm.Spec)) fsm.Spec {
		s := base
		f(&s)
		return s
	}
	for name, c := range map[string]struct {
		spec    fsm.Spec
		restart bool
		idle    bool
		changes []Change
		rows    string
	}{
		"the same":      {base, false, true, []Change{}, "1:keep"},
		"restart":       {base, true, false, []Change{}, "2:stand-in 1:renew"},
		"another image": {with(func(s *fsm.Spec) { s.Image = "acts:2" }), false, false, []Change{{"image", "acts:1", "acts:2"}}, "2:stand-in 1:renew"},
		"routes":        {with(func(s *fsm.Spec) { s.Routes = []string{"/a"} }), false, false, []Change{{"routes", `["/"]`, `["/a"]`}}, "1:keep"},
		"scale":         {with(func(s *fsm.Spec) { s.Scale.Max = 20 }), false, false, []Change{{"scale.max", "10", "20"}}, "1:keep"},
		"a secret":      {with(func(s *fsm.Spec) { s.Env = map[string]string{"KEY": "hunter2"} }), false, false, []Change{{"env.KEY", "", "a value"}}, "2:stand-in 1:renew"},
		"a new service": {with(func(s *fsm.Spec) { s.Name, s.Scale.Min = "web", 2 }), false, false, []Change{}, "1:place 2:place"},
	} {
		p := PlanOf(n.View(), c.spec, "", c.restart)
		if p.Idle() != c.idle || !slices.Equal(p.Changes, c.changes) || actions(p) != c.rows {
			t.Errorf("%s: %+v, rows %s", name, p, actions(p))
		}
	}
}

// TestPlanOfAnImageBuiltAgain under its tag.
func TestPlanOfAnImageBuiltAgain(t *testing.T) {
	n, c := leading(t)
	spec := fsm.Spec{Name: "acts", Image: "acts:1"}.WithDefaults()
	n.image = "sha256:0123456789abcdef"
	if err := c.Restart(t.Context(), "acts", ""); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Plan(t.Context(), spec, ApplyOptions{}); err != nil || !p.Idle() {
		t.Errorf("the same image: %+v, %v", p, err)
	}
	n.image = "sha256:fedcba9876543210"
	p, err := c.Plan(t.Context(), spec, ApplyOptions{})
	if err != nil || p.Revision != 3 || !slices.Equal(p.Changes, []Change{{"image (built again)", "0123456789ab", "fedcba987654"}}) || actions(p) != "2:stand-in 1:renew" {
		t.Errorf("built again: %+v, %v", p, err)
	}
	if err := c.Apply(t.Context(), spec, ApplyOptions{Base: p.Base}); err != nil {
		t.Fatal(err)
	}
	if sv, _ := n.View().Service("acts"); sv.Newest().Build != 3 || sv.Newest().ImageID != n.image {
		t.Errorf("applied: %+v", sv.Newest())
	}
}

// TestDiffHidesValues of the environment, whichever way they change.
func TestDiffHidesValues(t *testing.T) {
	a := fsm.Spec{Env: map[string]string{"GONE": "hunter1", "OTHER": "hunter2", "SAME": "hunter3"}}
	b := fsm.Spec{Env: map[string]string{"OTHER": "hunter4", "SAME": "hunter3", "NEW": "hunter5"}}
	got := Diff(a, b)
	want := []Change{{"env.GONE", "(the value before)", ""}, {"env.NEW", "", "a value"}, {"env.OTHER", "(the value before)", "(another value)"}}
	if !slices.Equal(got, want) || strings.Contains(fmt.Sprint(got), "hunter") {
		t.Errorf("%+v", got)
	}
}

func TestRollOutOverTheAPI(t *testing.T) {
	n, c := leading(t)
	ctx := t.Context()
	good(t, n)
	spec := fsm.Spec{Name: "acts", Image: "acts:2"}.WithDefaults()
	p, err := c.Plan(ctx, spec, ApplyOptions{})
	if err != nil || p.Base != 1 || p.Revision != 2 || actions(p) != "2:stand-in 1:renew" {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if err := c.Apply(ctx, spec, ApplyOptions{Base: p.Base, Why: "release 2"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, fsm.Spec{Name: "acts", Image: "acts:3"}, ApplyOptions{Base: p.Base}); !errors.Is(err, fsm.ErrStale) {
		t.Errorf("applied a plan that was overtaken: %v", err)
	}
	good(t, n)
	if err := c.Restart(ctx, "acts", "built again"); err != nil {
		t.Fatal(err)
	}
	list, err := c.History(ctx, "acts")
	if err != nil || len(list) != 3 || list[0].Build != 3 || list[0].Why != "built again" || list[0].Outcome != fsm.Rolling ||
		list[1].By != "root on n1" || list[1].Why != "release 2" || !slices.Equal(list[1].Changes, []Change{{"image", "acts:1", "acts:2"}}) {
		t.Fatalf("history %+v, %v", list, err)
	}
	good(t, n)
	r, err := c.RollBack(ctx, "acts", 0, "slow")
	if err != nil || r != (RolledBack{"acts", 3, 2}) {
		t.Errorf("rolled back to the build before: %+v, %v", r, err)
	}
	if r, err = c.RollBack(ctx, "acts", 1, "slower"); err != nil || r != (RolledBack{"acts", 4, 1}) {
		t.Errorf("rolled back to the first: %+v, %v", r, err)
	}
	if sv, _ := n.View().Service("acts"); sv.Spec.Image != "acts:1" || sv.Newest().Why != "slower" {
		t.Errorf("service %+v", sv.Newest())
	}
	for what, err := range map[string]error{
		"revision 9":  second(c.RollBack(ctx, "acts", 9, "")),
		"unknown":     second(c.RollBack(ctx, "nothing", 0, "")),
		"no history":  second(c.History(ctx, "nothing")),
		"no restart":  c.Restart(ctx, "nothing", ""),
		"a bad spec":  second(c.Plan(ctx, fsm.Spec{Name: "acts"}, ApplyOptions{})),
		"a bad base":  c.call(ctx, http.MethodPost, "/v1/services?base=x", spec, nil),
		"a bad body":  c.call(ctx, http.MethodPost, "/v1/services/acts/rollback", map[string]string{"into": "1"}, nil),
		"no deadline": c.DrainNode(ctx, "n1", 0),
		"no node":     c.DrainNode(ctx, "n9", time.Minute),
	} {
		var refused *Error
		if !errors.As(err, &refused) || refused.Code == "internal" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestRollBackOfTheFirst has nowhere to go, and says so.
func TestRollBackOfTheFirst(t *testing.T) {
	_, c := leading(t)
	if _, err := c.RollBack(t.Context(), "acts", 0, ""); err == nil || !strings.Contains(err.Error(), "orchctl history acts") {
		t.Errorf("%v", err)
	}
}

func TestDrainOverTheAPI(t *testing.T) {
	n, c := leading(t)
	if err := c.DrainNode(t.Context(), "n1", 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	if x, _ := n.View().Node("n1"); x.DrainDeadline < 600_000 {
		t.Errorf("drained: %+v", x)
	}
	if err := c.UndrainNode(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if x, _ := n.View().Node("n1"); x.Leaving() {
		t.Errorf("undrained: %+v", x)
	}
}
