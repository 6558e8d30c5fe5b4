package api

import (
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
		"an unknown key":      {"name: acts\nimage: a\nimgae: b\n", []string{`f.yaml:3: imgae: unknown key; did you mean "image"?`}},
		"deep":                {"name: acts\nimage: a\nscale:\n  mx: 3\n", []string{`f.yaml:4: scale.mx: unknown key; did you mean "max"?`}},
		"nothing like it":     {"name: acts\nimage: a\nhealth: {banana: 1}\n", []string{"f.yaml:3: health.banana: unknown key; known are failures, path, start_timeout, timeout"}},
		"a wrong value":       {"name: acts\nimage: a\nscale:\n  min: 2\n  max: 900\n", []string{"f.yaml:5: scale.max: 900 is wrong; between 1 and 500"}},
		"two faults":          {"name: Acts\nimage: a\nturn: fair\n", []string{`f.yaml:1: name: "Acts" is wrong`, `f.yaml:3: turn: "fair" is wrong; "leased" or "exact"`}},
		"a wrong type":        {"name: acts\nimage: a\nscale: {min: many}\n", []string{"f.yaml:3: cannot unmarshal"}},
		"a wrong duration":    {"name: acts\nimage: a\ntimeout: soon\n", []string{"soon"}},
		"no mapping":          {"- a\n- b\n", []string{"f.yaml:1: the spec: wants keys and values"}},
		"a value for a group": {"name: acts\nimage: a\nscale: 3\n", []string{"f.yaml:3: scale: wants keys and values"}},
		"in a list":           {"name: acts\nimage: a\nvolumes:\n  - name: x\n    target: y\n", []string{`f.yaml:5: volumes[0].target: "y" is wrong`}},
		"nothing":             {"", []string{"f.yaml: holds no service"}},
		"no name":             {"image: a\n", []string{`f.yaml: name: "" is wrong`}},
		"broken":              {"name: [", []string{"f.yaml:1: did not find"}},
		"twice":               {"name: a\nimage: a\n---\nname: a\nimage: b\n", []string{"stands twice"}},
		"an alias":            {"name: acts\nimage: &a x\nuser: *a\n", []string{"f.yaml:3: aliases"}},
		"twice one key":       {"name: acts\nimage: a\nimage: b\n", []string{"already defined"}},
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

func FuzzParseSpecs(f *testing.F) {
	f.Add([]byte("name: acts\nimage: a\n"))
	f.Add([]byte("name: acts\nimage: a\nvolumes: [{name: x, target: /y}]\n---\nscale: {min: 1}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		specs, err := ParseSpecs("f.yaml", b)
		if err != nil {
			return
		}
		for _, s := range specs {
			if err := s.Validate(); err != nil {
				t.Errorf("%q was accepted: %v", b, err)
			}
		}
	})
}
