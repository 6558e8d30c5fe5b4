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

// read lists the filter table.
func (f *Firewall) read(ctx context.Context) (table, error) {
	out, err := f.command(ctx, "", "tables-save", "-t", "filter")
	if err != nil {
		return nil, err
	}
	return parse(bytes.NewReader(out))
}

// restore has the kernel take a script, all of it or nothing.
func (f *Firewall) restore(ctx context.Context, script string) error {
	_, err := f.command(ctx, script, "tables-restore", "-w", lockSeconds, "--noflush")
	return err
}

// command runs one of the iptables of the address's family. Its error is what the
// command says, of which the first line that is no warning tells most.
func (f *Firewall) command(ctx context.Context, stdin, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	family := "ip"
	if f.cfg.Address.Is6() {
		family = "ip6"
	}
	cmd := exec.CommandContext(ctx, family+name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%w: there is no %s in this daemon's $PATH (apt-get install iptables)", errMissing, family+name)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", family+name, context.Cause(ctx))
	}
	for line := range strings.Lines(stderr.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return nil, fmt.Errorf("%s: %s", family+name, strings.TrimPrefix(line, family+name+" "))
		}
	}
	return nil, fmt.Errorf("%s: %w", family+name, err)
}

// errMissing is wrapped where iptables is not installed.
var errMissing = errors.New("not installed")
