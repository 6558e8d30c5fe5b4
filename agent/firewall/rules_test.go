package firewall

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func testFirewall(t *testing.T, edit func(*Config)) *Firewall {
	t.Helper()
	cfg := Config{Cluster: "c", Node: "n1", Address: netip.MustParseAddr("10.0.0.1"), Logger: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestConfigIsChecked(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"no cluster":      func(c *Config) { c.Cluster = "" },
		"no node":         func(c *Config) { c.Node = "" },
		"no address":      func(c *Config) { c.Address = netip.Addr{} },
		"every address":   func(c *Config) { c.Address = netip.IPv4Unspecified() },
		"no logger":       func(c *Config) { c.Logger = nil },
		"a range of none": func(c *Config) { c.Ports = Ports{9000, 8000} },
		"port 0":          func(c *Config) { c.Ports = Ports{0, 8000} },
	} {
		cfg := Config{Cluster: "c", Node: "n1", Address: netip.MustParseAddr("10.0.0.1"), Logger: slog.New(slog.DiscardHandler)}
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestChainsDiffer: two clusters or two nodes on one machine have a chain each, of a
// name that iptables takes.
func TestChainsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []string{"a", "b"} {
		for _, n := range []string{"n1", "n2"} {
			f := testFirewall(t, func(cfg *Config) { cfg.Cluster, cfg.Node = c, n })
			if seen[f.Chain()] || len(f.Chain()) > 28 {
				t.Errorf("chain %s of %s/%s", f.Chain(), c, n)
			}
			seen[f.Chain()] = true
		}
	}
}

func TestPeersOfTheFamily(t *testing.T) {
	got := among(addrs("10.0.0.3", "::ffff:10.0.0.2", "2001:db8::1", "10.0.0.3", "0.0.0.0"), netip.MustParseAddr("10.0.0.1"))
	if want := addrs("10.0.0.2", "10.0.0.3"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := among(addrs("10.0.0.3", "2001:db8::1"), netip.MustParseAddr("2001:db8::9")); !slices.Equal(got, addrs("2001:db8::1")) {
		t.Errorf("of IPv6: %v", got)
	}
}

func TestRulesInOrder(t *testing.T) {
	f := testFirewall(t, func(c *Config) { c.Open = []uint16{80, 8080} })
	want := []string{
		"-s 10.0.0.2 -j RETURN",
		"-s 10.0.0.3 -j RETURN",
		"-i docker0 -j RETURN",
		"-p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 8080 --ctdir ORIGINAL -j RETURN",
		"-d 172.17.0.2 -p tcp -m conntrack --ctorigdst 172.17.0.2 --ctdir ORIGINAL -m addrtype ! --src-type LOCAL -j DROP",
		"-p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 8000:8999 --ctdir ORIGINAL -m addrtype ! --src-type LOCAL -j DROP",
	}
	if got := f.rules(addrs("10.0.0.2", "10.0.0.3"), addrs("172.17.0.2")); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// TestScripts: what is changed of a table, and that it is nothing of others.
func TestScripts(t *testing.T) {
	f := testFirewall(t, nil)
	for name, c := range map[string]struct {
		rules  string // of others' chains, as iptables-save prints them; CHAIN is ours
		script []string
	}{
		"with Docker": {":DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n",
			[]string{"-I INPUT 1 -j CHAIN", "-I DOCKER-USER 1 -j CHAIN"}},
		"without Docker": {"", []string{"-I INPUT 1 -j CHAIN", "-I FORWARD 1 -j CHAIN"}},
		"Docker came": {":DOCKER-USER - [0:0]\n-A INPUT -j CHAIN\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j CHAIN\n",
			[]string{"-D FORWARD -j CHAIN", "-I DOCKER-USER 1 -j CHAIN"}},
		"nothing leads to DOCKER-USER": {":DOCKER-USER - [0:0]\n-A INPUT -j CHAIN\n-A DOCKER-USER -j CHAIN\n",
			[]string{"-I FORWARD 1 -j CHAIN", "-D DOCKER-USER -j CHAIN"}},
		"all in place":          {"-A INPUT -j CHAIN\n-A FORWARD -j CHAIN\n", nil},
		"behind an exception":   {"-A INPUT -s 10.9.0.0/16 -j ACCEPT\n-A INPUT -j CHAIN\n-A FORWARD -j CHAIN\n", nil},
		"behind the last word":  {"-A INPUT -j ACCEPT\n-A INPUT -j CHAIN\n-A FORWARD -j CHAIN\n", []string{"-D INPUT -j CHAIN", "-I INPUT 1 -j CHAIN"}},
		"twice":                 {"-A INPUT -j CHAIN\n-A INPUT -j CHAIN\n-A FORWARD -j CHAIN\n", []string{"-D INPUT -j CHAIN", "-D INPUT -j CHAIN", "-I INPUT 1 -j CHAIN"}},
		"a chain like ours":     {"-A INPUT -j CHAIN-2\n-A FORWARD -j CHAIN\n", []string{"-I INPUT 1 -j CHAIN"}},
		"a jump of a condition": {"-A INPUT -i eth1 -j CHAIN\n-A FORWARD -j CHAIN\n", []string{"-I INPUT 1 -j CHAIN"}},
	} {
		listing := "# a comment\n*filter\n:INPUT ACCEPT [1:2]\n:FORWARD DROP [0:0]\n" + strings.ReplaceAll(c.rules, "CHAIN", f.Chain()) + "COMMIT\n"
		tab, err := parse(strings.NewReader(listing))
		if err != nil {
			t.Fatal(err)
		}
		want := "*filter\n:CHAIN - [0:0]\n-A CHAIN -j DROP\n"
		for _, line := range c.script {
			want += line + "\n"
		}
		want = strings.ReplaceAll(want+"COMMIT\n", "CHAIN", f.Chain())
		if got := f.script(tab, []string{"-j DROP"}); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

func TestRightOnlyAsItWasShown(t *testing.T) {
	f := testFirewall(t, nil)
	rules := []string{"-s 10.0.0.2 -j RETURN", "-j DROP"}
	shown := []string{"-s 10.0.0.2/32 -j RETURN", "-j DROP"}
	good := func() table {
		jump := []string{"-j " + f.Chain()}
		return table{"INPUT": jump, "FORWARD": jump, f.Chain(): slices.Clone(shown)}
	}
	f.kept = kept{rules: rules, shown: shown}
	if !f.right(good(), rules) {
		t.Fatal("not right as it was shown")
	}
	for name, edit := range map[string]func(t table){
		"a rule is gone":      func(t table) { t[f.Chain()] = shown[:1] },
		"a rule is another":   func(t table) { t[f.Chain()][0] = "-s 10.0.0.9/32 -j RETURN" },
		"flushed":             func(t table) { t[f.Chain()] = []string{} },
		"the chain is gone":   func(t table) { delete(t, f.Chain()) },
		"INPUT was flushed":   func(t table) { t["INPUT"] = nil },
		"FORWARD was flushed": func(t table) { t["FORWARD"] = nil },
		"Docker came":         func(t table) { t["FORWARD"], t["DOCKER-USER"] = []string{"-j DOCKER-USER"}, []string{} },
	} {
		tab := good()
		edit(tab)
		if f.right(tab, rules) {
			t.Errorf("%s: taken for right", name)
		}
	}
	if f.right(good(), rules[1:]) {
		t.Error("right with other peers")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j X\nCOMMIT\n")
	f.Add("-A \n:\n-A X")
	f.Fuzz(func(t *testing.T, s string) {
		tab, err := parse(strings.NewReader(s))
		if err != nil {
			return
		}
		f := testFirewall(t, nil)
		if n := strings.Count(f.script(tab, nil), "COMMIT\n"); n < 1 {
			t.Errorf("no end of the script for %q", s)
		}
	})
}
