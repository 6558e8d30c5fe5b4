package fsm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Duration is a time.Duration written as text ("2m", "750ms") in specs.
type Duration time.Duration

// MarshalText writes d as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write for example 2m, 30s or 750ms", b)
	}
	*d = Duration(v)
	return nil
}

// Spec says what a service is: its image, where its requests come from, how it
// is watched and how it is scaled. Zero fields take the values of Defaults.
type Spec struct {
	Name    string            `json:"name" yaml:"name"`
	Image   string            `json:"image" yaml:"image"`
	Command []string          `json:"command,omitempty" yaml:"command,omitempty"`
	Env     map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
	// SecretEnv is environment too, whose values are sealed wherever they are kept.
	SecretEnv map[string]string `json:"secret_env,omitempty" yaml:"secret_env,omitempty"`
	User      string            `json:"user,omitempty" yaml:"user,omitempty"` // numeric uid or uid:gid
	// ContainerPort is where the service listens inside its container.
	ContainerPort int `json:"container_port,omitempty" yaml:"container_port,omitempty"`
	// PortBase is the first port of the machine it is published on.
	PortBase int      `json:"port_base,omitempty" yaml:"port_base,omitempty"`
	Routes   []string `json:"routes,omitempty" yaml:"routes,omitempty"` // path prefixes
	Volumes  []Volume `json:"volumes,omitempty" yaml:"volumes,omitempty"`

	Health    Health    `json:"health" yaml:"health,omitempty"`
	Scale     Scale     `json:"scale" yaml:"scale,omitempty"`
	Resources Resources `json:"resources" yaml:"resources,omitempty"`
	Rollout   Rollout   `json:"rollout" yaml:"rollout,omitempty"`

	// Turn is "leased" or "exact".
	Turn string `json:"turn,omitempty" yaml:"turn,omitempty"`
	// Uncounted are path prefixes whose requests do not count for scaling;
	// paths outside /api/ never do. Absent are the defaults; an empty list is none.
	Uncounted      []string `json:"uncounted,omitzero" yaml:"uncounted,omitempty"`
	ExposeInternal bool     `json:"expose_internal,omitempty" yaml:"expose_internal,omitempty"`
	DebugHeaders   bool     `json:"debug_headers,omitempty" yaml:"debug_headers,omitempty"`
	// MaxBody is the largest request body, in bytes.
	MaxBody int64 `json:"max_body,omitempty" yaml:"max_body,omitempty"`
	// Timeout bounds the wait for the head of an answer.
	Timeout Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// Drain bounds the wait for in-flight requests before a planned stop.
	Drain Duration `json:"drain,omitempty" yaml:"drain,omitempty"`
	// Grace is the time between SIGTERM and SIGKILL at a planned stop.
	Grace Duration `json:"grace,omitempty" yaml:"grace,omitempty"`
}

// Volume is a folder of the machine shared by the containers on it.
type Volume struct {
	Name   string `json:"name" yaml:"name"`     // folder below the node's volume folder
	Target string `json:"target" yaml:"target"` // absolute path in the container
}

// Health says how a container is probed.
type Health struct {
	Path     string   `json:"path,omitempty" yaml:"path,omitempty"`
	Timeout  Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	Failures int      `json:"failures,omitempty" yaml:"failures,omitempty"` // in a row until Status is False
	// StartTimeout is how long a new container may take until its first good answer.
	StartTimeout Duration `json:"start_timeout,omitempty" yaml:"start_timeout,omitempty"`
}

// Scale says how many containers there shall be.
type Scale struct {
	Min                  int      `json:"min,omitempty" yaml:"min,omitempty"`
	Max                  int      `json:"max,omitempty" yaml:"max,omitempty"`
	Window               Duration `json:"window,omitempty" yaml:"window,omitempty"`
	RequestsPerContainer int      `json:"requests_per_container,omitempty" yaml:"requests_per_container,omitempty"`
	Cooldown             Duration `json:"cooldown,omitempty" yaml:"cooldown,omitempty"`
}

// Resources are the limits of one container.
type Resources struct {
	MemoryMiB int64   `json:"memory_mib,omitempty" yaml:"memory_mib,omitempty"`
	CPUs      float64 `json:"cpus,omitempty" yaml:"cpus,omitempty"`
	Pids      int64   `json:"pids,omitempty" yaml:"pids,omitempty"`
}

// Rollout says how a new version takes the place of the old one.
type Rollout struct {
	// Parallel is how many containers are replaced at once, each with a stand-in.
	Parallel int `json:"parallel,omitempty" yaml:"parallel,omitempty"`
	// HealthyWithin is how long a container of the new version may take until it has
	// been healthy once; then the service goes back to the version before.
	HealthyWithin Duration `json:"healthy_within,omitempty" yaml:"healthy_within,omitempty"`
}

// WithDefaults returns s with every zero field set to its default. The scaling
// rule is the original orchestrator's: floor(N/20)+1 over two minutes, 1 to 10.
func (s Spec) WithDefaults() Spec {
	or(&s.ContainerPort, 8000)
	or(&s.PortBase, 8000)
	or(&s.Health.Path, "/api/v1/_health")
	or(&s.Health.Timeout, Duration(750*time.Millisecond))
	or(&s.Health.Failures, 1)
	or(&s.Health.StartTimeout, Duration(15*time.Second))
	or(&s.Scale.Min, 1)
	or(&s.Scale.Max, max(10, s.Scale.Min))
	or(&s.Scale.Window, Duration(2*time.Minute))
	or(&s.Scale.RequestsPerContainer, 20)
	or(&s.Scale.Cooldown, Duration(2*time.Minute))
	or(&s.Resources.MemoryMiB, 256)
	or(&s.Resources.CPUs, 1)
	or(&s.Resources.Pids, 256)
	or(&s.Rollout.Parallel, 1)
	or(&s.Rollout.HealthyWithin, max(Duration(30*time.Second), 2*s.Health.StartTimeout))
	or(&s.Turn, "leased")
	or(&s.MaxBody, 16<<20)
	or(&s.Timeout, Duration(30*time.Second))
	or(&s.Drain, Duration(30*time.Second))
	or(&s.Grace, Duration(10*time.Second))
	if len(s.Routes) == 0 {
		s.Routes = []string{"/"}
	}
	if s.Uncounted == nil {
		s.Uncounted = []string{"/api/v1/_health", "/api/v1/_crash", "/api/v1/_count"}
	}
	return s
}

func or[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Fault is one thing wrong with a spec: the key, its value, what would be right.
type Fault struct {
	Key, Value, Want string
}

func (f Fault) String() string { return fmt.Sprintf("%s: %s is wrong; %s", f.Key, f.Value, f.Want) }

// SpecError is every fault of a spec at once.
type SpecError []Fault

func (e SpecError) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return "spec: " + strings.Join(lines, "; ")
}

var (
	nameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	userRE = regexp.MustCompile(`^([0-9]{1,7}(:[0-9]{1,7})?)?$`)
	envRE  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate says everything that is wrong with a spec that has its defaults, as
// a SpecError, or nil.
func (s Spec) Validate() error {
	var e SpecError
	check := func(ok bool, key string, value any, want string) {
		if !ok {
			e = append(e, Fault{key, fmt.Sprintf("%v", value), want})
		}
	}
	between := func(key string, v, low, high int64, unit string) {
		check(v >= low && v <= high, key, v, fmt.Sprintf("between %d and %d%s", low, high, unit))
	}
	spanning := func(key string, d Duration, low, high time.Duration) {
		check(time.Duration(d) >= low && time.Duration(d) <= high, key, time.Duration(d), fmt.Sprintf("between %s and %s", low, high))
	}
	check(nameRE.MatchString(s.Name), "name", fmt.Sprintf("%q", s.Name), "a lower-case letter, then up to 30 lower-case letters, digits and dashes")
	check(s.Image != "" && len(s.Image) <= 255 && !strings.ContainsAny(s.Image, " \t\r\n"), "image", fmt.Sprintf("%q", s.Image), "an image reference such as acts:latest")
	check(userRE.MatchString(s.User), "user", fmt.Sprintf("%q", s.User), "a numeric uid, or uid:gid")
	between("container_port", int64(s.ContainerPort), 1, 65535, "")
	between("port_base", int64(s.PortBase), 8000, MaxPort, "")
	between("health.failures", int64(s.Health.Failures), 1, 10, "")
	spanning("health.timeout", s.Health.Timeout, 50*time.Millisecond, 900*time.Millisecond)
	spanning("health.start_timeout", s.Health.StartTimeout, time.Second, 10*time.Minute)
	between("scale.max", int64(s.Scale.Max), 1, 500, "")
	between("scale.min", int64(s.Scale.Min), 1, int64(max(s.Scale.Max, 1)), " (scale.max)")
	between("scale.requests_per_container", int64(s.Scale.RequestsPerContainer), 1, 1e9, "")
	spanning("scale.window", s.Scale.Window, time.Second, 10*time.Minute)
	spanning("scale.cooldown", s.Scale.Cooldown, time.Second, 30*time.Minute)
	between("resources.memory_mib", s.Resources.MemoryMiB, 6, 1<<20, " MiB")
	check(s.Resources.CPUs >= 0.01 && s.Resources.CPUs <= 512, "resources.cpus", s.Resources.CPUs, "between 0.01 and 512")
	between("resources.pids", s.Resources.Pids, 16, 1<<20, "")
	between("rollout.parallel", int64(s.Rollout.Parallel), 1, 50, "")
	spanning("rollout.healthy_within", s.Rollout.HealthyWithin, max(time.Second, time.Duration(s.Health.StartTimeout)), time.Hour)
	check(s.Turn == "leased" || s.Turn == "exact", "turn", fmt.Sprintf("%q", s.Turn), `"leased" or "exact"`)
	between("max_body", s.MaxBody, 1, 1<<40, " bytes")
	spanning("timeout", s.Timeout, 100*time.Millisecond, time.Hour)
	spanning("drain", s.Drain, 0, time.Hour)
	spanning("grace", s.Grace, 0, 10*time.Minute)
	path := func(key, p string) {
		check(strings.HasPrefix(p, "/") && len(p) <= 200 && !strings.ContainsAny(p, " \t\r\n?#"), key, fmt.Sprintf("%q", p), "a path that begins with / and has no blanks, ? or #")
	}
	path("health.path", s.Health.Path)
	for i, r := range s.Routes {
		path(fmt.Sprintf("routes[%d]", i), r)
	}
	for i, r := range s.Uncounted {
		path(fmt.Sprintf("uncounted[%d]", i), r)
	}
	for i, v := range s.Volumes {
		check(nameRE.MatchString(v.Name), fmt.Sprintf("volumes[%d].name", i), fmt.Sprintf("%q", v.Name), "a name such as acts-data")
		check(strings.HasPrefix(v.Target, "/") && len(v.Target) > 1 && !strings.Contains(v.Target, ".."), fmt.Sprintf("volumes[%d].target", i), fmt.Sprintf("%q", v.Target), "an absolute path such as /data")
	}
	for _, k := range sortedKeys(s.Env) {
		check(envRE.MatchString(k) && !strings.Contains(s.Env[k], "\x00"), "env."+k, fmt.Sprintf("%q", k), "letters, digits and underscores, not beginning with a digit")
	}
	for _, k := range sortedKeys(s.SecretEnv) {
		_, twice := s.Env[k]
		check(envRE.MatchString(k) && !strings.Contains(s.SecretEnv[k], "\x00"), "secret_env."+k, "its name or a NUL in its value", "letters, digits and underscores, not beginning with a digit")
		check(!twice, "secret_env."+k, "that env has it too", "name it once")
	}
	if len(e) == 0 {
		return nil
	}
	return e
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
