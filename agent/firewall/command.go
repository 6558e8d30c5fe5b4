package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// commandLimit ends a command that hangs; one takes a few milliseconds.
	commandLimit = 10 * time.Second
	// lockSeconds is how long iptables waits for another that changes the rules.
	lockSeconds = "5"
)

// families are the beginnings of the names of iptables and ip6tables.
var families = []string{"ip", "ip6"}

// family is that of this node's address.
func (f *Firewall) family() string {
	if f.cfg.Address.Is6() {
		return "ip6"
	}
	return "ip"
}

// read lists the filter table of a family.
func (f *Firewall) read(ctx context.Context, family string) (table, error) {
	out, err := f.command(ctx, "", family+"tables-save", "-t", "filter")
	if err != nil {
		return nil, err
	}
	return parse(bytes.NewReader(out))
}

// restore has the kernel take a script, all of it or nothing.
func (f *Firewall) restore(ctx context.Context, family, script string) error {
	_, err := f.command(ctx, script, family+"tables-restore", "-w", lockSeconds, "--noflush")
	return err
}

// command runs one of the iptables. Its error is what the command says, of which the
// first line that is no warning tells most.
func (f *Firewall) command(ctx context.Context, stdin, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%w: there is no %s in this daemon's $PATH (apt-get install iptables)", errMissing, name)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	for line := range strings.Lines(stderr.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return nil, fmt.Errorf("%s: %s", name, strings.TrimPrefix(line, name+" "))
		}
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// errMissing is wrapped where iptables is not installed.
var errMissing = errors.New("not installed")
