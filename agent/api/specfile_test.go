package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"orch/fsm"
)

// TestShippedSpecIsRead: the file that `make up` applies.
func TestShippedSpecIsRead(t *testing.T) {
	b, err := os.ReadFile("../../deploy/acts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := ParseSpecs("acts.yaml", b)
	if err != nil || len(specs) != 1 {
		t.Fatalf("%+v, %v", specs, err)
	}
	s := specs[0]
	if s.Name != "acts" || s.Scale.Max != 10 || s.Scale.Window != fsm.Duration(2*time.Minute) || s.Env["ACTS_DATA"] != "/data" || len(s.Uncounted) != 3 {
		t.Errorf("%+v", s)
	}
}

func TestWrongSpecsNameFileLineAndKey(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		want []string // each fault, in order
	}{
		"an unknown key":    {"name: acts\nimage: a\nimgae: b\n", []string{`f.yaml:3: imgae: unknown key; did you mean "image"?`}},
		"a misspelt one":    {"nmae: acts\nimage: a\n", []string{`f.yaml:1: nmae: unknown key; did you mean "name"?`}},
		"deep":              {"name: acts\nimage: a\nscale:\n  mx: 3\n", []string{`f.yaml:4: scale.mx: unknown key; did you mean "max"?`}},
		"nothing like it":   {"name: acts\nimage: a\nhealth: {banana: 1}\n", []string{"f.yaml:3: health.banana: unknown key; known are failures, path, start_timeout, timeout"}},
		"too far out":       {"name: acts\nimage: a\nmin: 3\n", []string{`f.yaml:3: min: unknown key; "min" belongs below scale:`}},
		"too far in":        {"name: acts\nimage: a\nscale: {turn: exact}\n", []string{`f.yaml:3: scale.turn: unknown key; "turn" belongs at the left margin`}},
		"a wrong value":     {"name: acts\nimage: a\nscale:\n  min: 2\n  max: 900\n", []string{"f.yaml:5: scale.max: 900 is wrong; between 1 and 500"}},
		"two faults":        {"name: Acts\nimage: a\nturn: fair\n", []string{`f.yaml:1: name: "Acts" is wrong`, `f.yaml:3: turn: "fair" is wrong; "leased" or "exact"`}},
		"a wrong type":      {"name: acts\nimage: a\nscale: {min: many}\n", []string{`f.yaml:3: scale.min: "many" is wrong; a whole number`}},
		"half a container":  {"name: acts\nimage: a\nscale: {min: 2.5}\n", []string{"f.yaml:3: scale.min: 2.5 is wrong; a whole number"}},
		"a wrong duration":  {"name: acts\nimage: a\ntimeout: soon\n", []string{`f.yaml:3: timeout: "soon" is wrong; a duration such as 2m, 30s or 750ms`}},
		"no unit":           {"name: acts\nimage: a\ntimeout: 30\n", []string{"f.yaml:3: timeout: 30 is wrong; a duration"}},
		"no truth":          {"name: acts\nimage: a\nexpose_internal: 3\n", []string{"f.yaml:3: expose_internal: 3 is wrong; true or false"}},
		"a number of words": {"name: acts\nimage: a\nresources: {cpus: all}\n", []string{`f.yaml:3: resources.cpus: "all" is wrong; a number`}},
		"a zero": {"name: acts\nimage: a\nscale: {min: 0}\ndrain: 0s\nuncounted: []\n", []string{
			"f.yaml:3: scale.min: 0 is wrong; it stands for the default, 1:", `f.yaml:4: drain: "0s" is wrong; it stands for the default, 30s:`, "f.yaml:5: uncounted: [] is wrong; an empty list stands for the default"}},
		"no mapping":          {"- a\n- b\n", []string{"f.yaml:1: a list is no spec; keys and values, one a line: command,"}},
		"a value for a group": {"name: acts\nimage: a\nscale: 3\n", []string{"f.yaml:3: scale: 3 is wrong; keys and values, one a line: cooldown, max, min"}},
		"a value for a list":  {"name: acts\nimage: a\ncommand: run\nenv: [A]\n", []string{`f.yaml:3: command: "run" is wrong; a list`, "f.yaml:4: env: a list is wrong; keys and values"}},
		"in a list":           {"name: acts\nimage: a\nvolumes:\n  - name: x\n    target: y\n", []string{`f.yaml:5: volumes[0].target: "y" is wrong`}},
		"nothing":             {"", []string{"f.yaml: holds no service"}},
		"only a line":         {"---\n", []string{"f.yaml: holds no service"}},
		"no name":             {"image: a\n", []string{`f.yaml:1: name: "" is wrong`}},
		"broken":              {"name: [", []string{"f.yaml:1: this is no YAML: did not find"}},
		"tabs":                {"name: a\nscale:\n\tmin: 1\n", []string{"f.yaml:3: this is no YAML: found character that cannot start any token; write"}},
		"twice":               {"name: a\nimage: a\n---\nname: a\nimage: b\n", []string{`f.yaml:4: name: "a" stands twice in this file, first in the document of line 1`}},
		"an alias":            {"name: acts\nimage: &a x\nuser: *a\n", []string{"f.yaml:3: user: *a is wrong; aliases"}},
		"an alias for a key":  {"name: acts\nimage: &image x\n*image : y\n", []string{"f.yaml:3: *image: is no plain word"}},
		"an alias in a map":   {"name: acts\nimage: &a x\nenv: {A: *a}\n", []string{"f.yaml:3: env.A: *a is wrong; aliases"}},
		"a merge":             {"name: acts\nimage: a\nscale: {<<: {min: 2}}\n", []string{"f.yaml:3: scale.<<: is no plain word"}},
		"twice one key":       {"name: acts\nimage: a\nimage: b\n", []string{"f.yaml:3: image: stands here and in line 2"}},
		"a long strange key":  {"name: acts\nimage: a\n\"\\e[31m" + strings.Repeat("x", 99) + "\": b\n", []string{`f.yaml:3: "\x1b[31mxxx`}},
		"of every kind, over two documents": {
			"name: acts\nimgae: b\nimage: a\nturn: fair\nscale: {min: many, max: 900}\n---\nimage: [x]\nname: B\ncolour: red\n",
			[]string{
				`f.yaml:2: imgae: unknown`, `f.yaml:4: turn: "fair"`, `f.yaml:5: scale.min: "many"`, "f.yaml:5: scale.max: 900",
				"f.yaml:7: image: a list is wrong; a text", `f.yaml:8: name: "B"`, "f.yaml:9: colour: unknown",
			},
		},
	} {
		_, err := ParseSpecs("f.yaml", []byte(c.yaml))
		var faults SpecFileError
		if !errors.As(err, &faults) || len(faults) != len(c.want) {
			t.Errorf("%s: %v, want %d faults", name, err, len(c.want))
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(faults[i].String(), want) {
				t.Errorf("%s: %q, want %q", name, faults[i], want)
			}
		}
	}
}

// TestSeveralServices in one file; nothing between two lines of dashes is no service.
func TestSeveralServices(t *testing.T) {
	specs, err := ParseSpecs("f.yaml", []byte("# two\n---\nname: a\nimage: x\nscale:\n---\n---\nname: b\nimage: y\nuser: 1000\nenv: {PORT: 80, EMPTY: }\ndrain: 1ms\n---\n"))
	if err != nil || len(specs) != 2 {
		t.Fatalf("%+v, %v", specs, err)
	}
	a, b := specs[0], specs[1]
	if a.Name != "a" || a.Scale.Max != 10 || b.Name != "b" || b.User != "1000" || b.Env["PORT"] != "80" || b.Drain != fsm.Duration(time.Millisecond) {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// FuzzParseSpecs: what is accepted is right, and what the server makes of it is what was
// written; what is refused says where and what.
func FuzzParseSpecs(f *testing.F) {
	f.Add([]byte("name: acts\nimage: a\n"))
	f.Add([]byte("name: acts\nimage: a\nvolumes: [{name: x, target: /y}]\n---\nscale: {min: 1}"))
	f.Add([]byte("name: acts\nimage: &a a\nenv: {A: *a, <<: {b: c}}\nroutes: []\ntimeout: 0s\nscale: {min: 2.5, max: !!binary AA==}\n? [x]\n: y"))
	f.Fuzz(func(t *testing.T, b []byte) {
		specs, err := ParseSpecs("f.yaml", b)
		var faults SpecFileError
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("%q: %v names no fault", b, err)
		}
		for _, x := range faults {
			if x.Line < 0 || x.Line > bytes.Count(b, []byte("\n"))+bytes.Count(b, []byte("\r"))+bytes.Count(b, []byte("\u2028"))+bytes.Count(b, []byte("\u2029"))+bytes.Count(b, []byte("\u0085"))+1 || x.Text == "" {
				t.Errorf("%q: fault %+v", b, x)
			}
		}
		for _, s := range specs {
			if err := s.Validate(); err != nil {
				t.Errorf("%q was accepted: %v", b, err)
			}
			sent, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var back fsm.Spec
			if err := json.Unmarshal(sent, &back); err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			if got, err := json.Marshal(back.WithDefaults()); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%q: the server makes %s of %s, %v", b, got, sent, err)
			}
		}
	})
}
