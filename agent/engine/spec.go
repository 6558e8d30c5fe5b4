package engine

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// nameForm is Docker's rule for names. The process engine names files by them, so
// no name may hold a slash or begin with a dot.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// check refuses a spec that no engine could run, or that would publish the
// container on every address: published ports bypass the host's firewall.
func (s Spec) check() error {
	ip := net.ParseIP(s.HostIP)
	switch {
	case !nameForm.MatchString(s.Name):
		return fmt.Errorf("name %q: use letters, digits, _ . and -, at most 128, a letter or digit first", s.Name)
	case ip == nil || ip.IsUnspecified():
		return fmt.Errorf("publish address %q: name one address of this machine, not all of them", s.HostIP)
	case s.HostPort < 1 || s.HostPort > 65535:
		return fmt.Errorf("host port %d: choose one from 1 to 65535", s.HostPort)
	case s.ContainerPort < 1 || s.ContainerPort > 65535:
		return fmt.Errorf("container port %d: choose one from 1 to 65535", s.ContainerPort)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) {
			return fmt.Errorf("mount %s at %s: name both by their whole path", m.Source, m.Target)
		}
	}
	return nil
}

// withDefaults fills in the limits that the spec leaves open.
func (s Spec) withDefaults() Spec {
	if s.PidsLimit <= 0 {
		s.PidsLimit = DefaultPids
	}
	if s.LogMaxSize == "" {
		s.LogMaxSize = DefaultLogSize
	}
	if s.LogMaxFiles <= 0 {
		s.LogMaxFiles = DefaultLogFiles
	}
	return s
}

// numericUser reads uid or uid:gid; the gid is the uid's number when left out.
// A name means nothing outside its image, so ok is false for it.
func numericUser(user string) (uid, gid int, ok bool) {
	u, g, both := strings.Cut(user, ":")
	if !both {
		g = u
	}
	// 31 bits: -1 would mean "leave as it is" to chown.
	a, err := strconv.ParseUint(u, 10, 31)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(g, 10, 31)
	if err != nil {
		return 0, 0, false
	}
	return int(a), int(b), true
}

// makeVolumes makes the folders of a container's mounts, owned by user.
func makeVolumes(mounts []Mount, user string) error {
	uid, gid, numeric := numericUser(user)
	for _, m := range mounts {
		if err := os.MkdirAll(m.Source, 0o700); err != nil {
			return fmt.Errorf("make volume folder: %w", err)
		}
		if !numeric || os.Geteuid() != 0 {
			continue
		}
		if err := os.Chown(m.Source, uid, gid); err != nil {
			return fmt.Errorf("hand volume folder to user %s: %w", user, err)
		}
	}
	return nil
}

// hasLabels: everything wanted is there.
func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}
