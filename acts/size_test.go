package acts

import (
	"os"
	"os/exec"
	"testing"
)

// maxImage is the most that the image may weigh, in bytes. It is FROM scratch and has
// the program alone.
const maxImage = 25 << 20

// TestImageIsSmall: the program as the image has it.
func TestImageIsSmall(t *testing.T) {
	if out, err := exec.Command("make", "-s", "-C", "..", "bin/acts").CombinedOutput(); err != nil {
		t.Fatalf("make bin/acts: %v\n%s", err, out)
	}
	info, err := os.Stat("../bin/acts")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MiB", float64(info.Size())/(1<<20))
	if info.Size() >= maxImage {
		t.Errorf("bin/acts has %d bytes; the image must stay below %d: look for a new dependency, or for one that calls reflect's methods by name", info.Size(), maxImage)
	}
}
