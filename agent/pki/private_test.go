package pki

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckOwner: whoever owns a file can replace it, whatever its mode.
func TestCheckOwner(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "node.key")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file, "/"} { // ours, and root's
		if err := CheckOwner(path); err != nil {
			t.Error(err)
		}
	}
	if err := CheckOwner(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root may give files away")
		}
		t.Skip("only root may give files away")
	}
	for path, say := range map[string]string{file: "chown 0 " + file + "'", dir: "chown 0 " + dir + " " + dir + "/*'"} {
		if err := os.Chown(path, 65534, 0); err != nil {
			t.Fatal(err)
		}
		if err := CheckOwner(path); !errors.Is(err, ErrOwner) || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), "uid 65534") {
			t.Errorf("%s: %v, want %q", path, err, say)
		}
	}
}
