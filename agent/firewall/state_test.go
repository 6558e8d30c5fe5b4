package firewall

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// standIn puts commands into a $PATH that has nothing else.
func standIn(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return dir
}

// TestSaysOnceWhyPortsAreOpen: what keeps the ports open is the state, and one line of
// the log for as long as it is the same.
func TestSaysOnceWhyPortsAreOpen(t *testing.T) {
	const denied = "echo '# Warning: iptables-legacy tables present' >&2; echo 'iptables-save v1.8.9 (nf_tables): Permission denied (you must be root)' >&2; exit 4\n"
	for name, c := range map[string]struct {
		addr    string
		scripts map[string]string
		want    string
	}{
		"not installed":          {"10.0.0.1", nil, "10.0.0.1: not installed: there is no iptables-save in this daemon's $PATH"},
		"not installed for IPv6": {"2001:db8::1", map[string]string{"iptables-save": ""}, "2001:db8::1: not installed: there is no ip6tables-save"},
		"not root":               {"10.0.0.1", map[string]string{"iptables-save": denied}, "10.0.0.1: iptables-save: v1.8.9 (nf_tables): Permission denied (you must be root)"},
		"the kernel lacks it":    {"10.0.0.1", map[string]string{"iptables-save": "", "iptables-restore": "echo no conntrack >&2; exit 2\n"}, "10.0.0.1: iptables-restore: no conntrack"},
		"nothing sticks":         {"10.0.0.1", map[string]string{"iptables-save": "", "iptables-restore": ""}, "somebody changes the rules"},
	} {
		t.Run(name, func(t *testing.T) {
			standIn(t, c.scripts)
			var log bytes.Buffer
			f := testFirewall(t, func(cfg *Config) {
				cfg.Address, cfg.Logger = netip.MustParseAddr(c.addr), slog.New(slog.NewTextHandler(&log, nil))
			})
			for range 3 {
				f.look(t.Context(), f.wants(func() []netip.Addr { return nil }))
			}
			state := f.State()
			if !strings.HasPrefix(state.Reason, "container ports 8000-8999 are open to everybody who reaches "+c.addr) || !strings.Contains(state.Reason, c.want) {
				t.Errorf("state %q, want %q", state.Reason, c.want)
			}
			if state.Since.IsZero() || time.Since(state.Since) > time.Hour {
				t.Errorf("since %v", state.Since)
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=WARN") {
				t.Errorf("%d lines:\n%s", n, log.String())
			}
		})
	}
}

func TestRemoveWhereThereIsNothing(t *testing.T) {
	standIn(t, nil)
	if err := testFirewall(t, nil).Remove(t.Context()); err != nil {
		t.Errorf("without iptables: %v", err)
	}
	standIn(t, map[string]string{"iptables-save": "echo '*filter'; echo ':INPUT ACCEPT [0:0]'; echo COMMIT\n", "iptables-restore": "exit 1\n"})
	if err := testFirewall(t, nil).Remove(t.Context()); err != nil {
		t.Errorf("without a chain: %v", err)
	}
	const denied = "echo denied >&2; exit 4\n"
	standIn(t, map[string]string{"iptables-save": denied})
	if err := testFirewall(t, nil).Remove(t.Context()); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("without the right: %v", err)
	}
	if err := testFirewall(t, onLoopback).Remove(t.Context()); err != nil {
		t.Errorf("without the right, and with nothing to do: %v", err)
	}
	standIn(t, map[string]string{"iptables-save": "", "ip6tables-save": denied})
	if err := testFirewall(t, nil).Remove(t.Context()); err != nil {
		t.Errorf("without IPv6: %v", err)
	}
}

func onLoopback(c *Config) { c.Address = netip.MustParseAddr("127.0.0.1") }

// TestLoopbackNeedsNothing: no command is run for an address that only this machine reaches.
func TestLoopbackNeedsNothing(t *testing.T) {
	dir := standIn(t, map[string]string{"iptables-save": "echo > \"$0.ran\"\n"})
	f := testFirewall(t, func(c *Config) { onLoopback(c); c.Interval = time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Run(ctx, func() []netip.Addr { return nil }, nil); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("commands were run: %v", left)
	}
	if s := f.State(); s.Reason != "" {
		t.Errorf("state %v", s)
	}
}
