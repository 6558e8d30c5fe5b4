package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal and returns what a person holds, and has standard
// input be the other end.
func terminal(t *testing.T) *os.File {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	was := os.Stdin
	os.Stdin = program
	t.Cleanup(func() { os.Stdin = was })
	return person
}

// TestApplyAtAPrompt does what the person says.
func TestApplyAtAPrompt(t *testing.T) {
	l := running(t)
	person := terminal(t)
	for _, c := range []struct {
		answer, want string
	}{{"n\n", "acts:1"}, {"\n", "acts:1"}, {"yes\n", "acts:2"}} {
		if _, err := person.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run(t.Context(), []string{"apply", "-f", "two.yaml"}, &out, &out)
		if image(l) != c.want || (err == nil) != (c.want == "acts:2") || !strings.Contains(out.String(), "[y/N]") {
			t.Errorf("%q: image %s, %v\n%s", c.answer, image(l), err, &out)
		}
	}
}
