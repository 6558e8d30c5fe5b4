package fsm

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreTheOriginalsRule(t *testing.T) {
	s := Spec{Name: "acts", Image: "acts:1"}.WithDefaults()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Scale != (Scale{Min: 1, Max: 10, Window: Duration(2 * time.Minute), RequestsPerContainer: 20, Cooldown: Duration(2 * time.Minute)}) {
		t.Errorf("scale %+v", s.Scale)
	}
	if s.PortBase != 8000 || s.Health.Failures != 1 || s.Health.Path != "/api/v1/_health" {
		t.Errorf("spec %+v", s)
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for key, edit := range map[string]func(*Spec){
		"name":                         func(s *Spec) { s.Name = "Acts" },
		"image":                        func(s *Spec) { s.Image = "a b" },
		"user":                         func(s *Spec) { s.User = "root" },
		"container_port":               func(s *Spec) { s.ContainerPort = 70000 },
		"port_base":                    func(s *Spec) { s.PortBase = 80 },
		"health.path":                  func(s *Spec) { s.Health.Path = "health" },
		"health.timeout":               func(s *Spec) { s.Health.Timeout = Duration(time.Second) },
		"health.failures":              func(s *Spec) { s.Health.Failures = -1 },
		"health.start_timeout":         func(s *Spec) { s.Health.StartTimeout = 1 },
		"scale.max":                    func(s *Spec) { s.Scale.Max = 501 },
		"scale.min":                    func(s *Spec) { s.Scale.Min = 11 },
		"scale.window":                 func(s *Spec) { s.Scale.Window = Duration(time.Hour) },
		"scale.cooldown":               func(s *Spec) { s.Scale.Cooldown = Duration(time.Hour) },
		"scale.requests_per_container": func(s *Spec) { s.Scale.RequestsPerContainer = -1 },
		"resources.memory_mib":         func(s *Spec) { s.Resources.MemoryMiB = 1 },
		"resources.cpus":               func(s *Spec) { s.Resources.CPUs = -1 },
		"resources.pids":               func(s *Spec) { s.Resources.Pids = 1 },
		"turn":                         func(s *Spec) { s.Turn = "random" },
		"max_body":                     func(s *Spec) { s.MaxBody = -1 },
		"timeout":                      func(s *Spec) { s.Timeout = 1 },
		"drain":                        func(s *Spec) { s.Drain = -1 },
		"grace":                        func(s *Spec) { s.Grace = -1 },
		"routes[1]":                    func(s *Spec) { s.Routes = []string{"/", "x"} },
		"uncounted[0]":                 func(s *Spec) { s.Uncounted = []string{"?"} },
		"volumes[0].name":              func(s *Spec) { s.Volumes = []Volume{{Name: "../x", Target: "/data"}} },
		"volumes[0].target":            func(s *Spec) { s.Volumes = []Volume{{Name: "x", Target: "data"}} },
		"env.A B":                      func(s *Spec) { s.Env = map[string]string{"A B": "1"} },
	} {
		s := Spec{Name: "acts", Image: "acts:1"}.WithDefaults()
		edit(&s)
		var faults SpecError
		if err := s.Validate(); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Key != key || faults[0].Want == "" {
			t.Errorf("%s: %v", key, err)
		}
	}
	var none SpecError
	if err := (Spec{}).WithDefaults().Validate(); !errors.As(err, &none) || len(none) != 2 || !strings.Contains(err.Error(), "; ") {
		t.Errorf("nothing but defaults: %v", err)
	}
}

// TestNothingUncounted: an empty list is another wish than none, all the way to the table
// and through a snapshot.
func TestNothingUncounted(t *testing.T) {
	for text, want := range map[string]int{`{"name":"a","image":"a:1"}`: 3, `{"name":"a","image":"a:1","uncounted":[]}`: 0, `{"name":"a","image":"a:1","uncounted":["/x"]}`: 1} {
		var s Spec
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what orchctl sends is read by the node, and filled in again
			b, err := json.Marshal(s.WithDefaults())
			if err != nil {
				t.Fatal(err)
			}
			s = Spec{}
			if err := json.Unmarshal(b, &s); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(s.WithDefaults().Uncounted); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}
