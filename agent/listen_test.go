package agent

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain's child: connects to a socket as another user.
const dialEnv = "AGENT_TEST_DIAL"

// TestSocketIsForTheGroup: root and the members of the group get in, others do not.
func TestSocketIsForTheGroup(t *testing.T) {
	if path := os.Getenv(dialEnv); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return
	}
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root may act as others")
		}
		t.Skip("only root may act as others")
	}
	const group, gid, nobody = "daemon", 1, 65534 // Debian's, and everybody's
	// Below a folder that others may enter.
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	as := func(path string, gid uint32) error {
		cmd := exec.Command(program, "-test.run=^TestSocketIsForTheGroup$")
		cmd.Dir, cmd.Env = dir, []string{dialEnv + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: gid}}
		out, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "permission denied") {
			t.Fatalf("%v: %s", err, out)
		}
		return err
	}
	for _, c := range []struct {
		group          string
		mode           os.FileMode
		member, anyone bool
	}{{group, 0o660, true, false}, {"", 0o600, false, false}, {"no-such-group", 0o600, false, false}} {
		path := filepath.Join(dir, "s")
		l, err := listenSocket(path, c.group)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != c.mode {
			t.Errorf("group %q: %v, %v", c.group, info, err)
		}
		if err := as(path, gid); (err == nil) != c.member {
			t.Errorf("group %q, a member: %v", c.group, err)
		}
		if err := as(path, nobody); (err == nil) != c.anyone {
			t.Errorf("group %q, anyone: %v", c.group, err)
		}
		l.Close()
	}
}

// TestSocketPathOfSomethingElse is left alone.
func TestSocketPathOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("it was touched: %q, %v", b, err)
	}
}
