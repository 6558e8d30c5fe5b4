package firewall

import (
	"fmt"
	"net/netip"
	"slices"
)

// Chains of others from which ours is reached. Docker sends what is forwarded through
// DOCKER-USER before any rule of its own, and leaves what is in it alone.
const (
	chainInput   = "INPUT"
	chainForward = "FORWARD"
	chainDocker  = "DOCKER-USER"
)

// rules are those of our chain. RETURN leaves the packet to whoever comes next: this
// chain shuts, it never opens.
//
// A forwarded packet has the container's address and port by now, so the rules ask
// the connection for those it was sent to. Only its first direction is looked at: an
// answer of a container comes from where the request went. One that was sent to a
// container's own address was never published.
func (f *Firewall) rules(peers, containers []netip.Addr) []string {
	var out []string
	for _, p := range peers {
		out = append(out, fmt.Sprintf("-s %s -j RETURN", p))
	}
	out = append(out, fmt.Sprintf("-i %s -j RETURN", f.cfg.Bridge))
	for _, port := range f.cfg.Open {
		if f.cfg.Ports.has(port) {
			out = append(out, fmt.Sprintf("-p tcp -m conntrack --ctorigdst %s --ctorigdstport %d --ctdir ORIGINAL -j RETURN", f.cfg.Address, port))
		}
	}
	// What comes from an address of this machine can only have come from it: the
	// kernel takes no such packet from a wire.
	const drop = " --ctdir ORIGINAL -m addrtype ! --src-type LOCAL -j DROP"
	for _, c := range containers {
		out = append(out, fmt.Sprintf("-d %s -p tcp -m conntrack --ctorigdst %s", c, c)+drop)
	}
	return append(out, fmt.Sprintf("-p tcp -m conntrack --ctorigdst %s --ctorigdstport %d:%d", f.cfg.Address, f.cfg.Ports.First, f.cfg.Ports.Last)+drop)
}

// among are the addresses that packets to or beside address can have: of its family,
// sorted, each once.
func among(addrs []netip.Addr, address netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, p := range addrs {
		if p = p.Unmap().WithZone(""); p.IsValid() && !p.IsUnspecified() && p.Is4() == address.Is4() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// hooks says of each chain of others whether it should jump to ours. What is not
// forwarded (Docker's userland proxy, a process) comes through INPUT. Where nothing
// leads to DOCKER-USER, FORWARD stands in.
func hooks(t table) map[string]bool {
	user := t.reaches(chainForward, chainDocker)
	return map[string]bool{chainInput: true, chainDocker: user, chainForward: !user}
}

// script has iptables-restore put our chain and its jumps right, as one transaction.
// A jump that is right stays where it is.
func (f *Firewall) script(t table, rules []string) string {
	s := "*filter\n:" + f.chain + " - [0:0]\n"
	for _, r := range rules {
		s += "-A " + f.chain + " " + r + "\n"
	}
	for _, h := range sortedHooks(t) {
		if wanted := hooks(t)[h]; wanted != f.hooked(t, h) {
			s += f.unhook(t, h)
			if wanted {
				s += "-I " + h + " 1 -j " + f.chain + "\n"
			}
		}
	}
	return s + "COMMIT\n"
}

// removal undoes all that script ever does; it is empty where nothing is ours.
func (f *Firewall) removal(t table) string {
	if _, ok := t[f.chain]; !ok {
		return ""
	}
	s := "*filter\n"
	for _, h := range sortedHooks(t) {
		s += f.unhook(t, h)
	}
	return s + "-F " + f.chain + "\n-X " + f.chain + "\nCOMMIT\n"
}

func (f *Firewall) unhook(t table, hook string) (s string) {
	for range t.jumps(hook, f.chain) {
		s += "-D " + hook + " -j " + f.chain + "\n"
	}
	return s
}

// hooked is true for a jump that is in force; where it is not wanted, for any.
func (f *Firewall) hooked(t table, hook string) bool {
	if !hooks(t)[hook] {
		return t.jumps(hook, f.chain) > 0
	}
	return t.reaches(hook, f.chain) && t.jumps(hook, f.chain) == 1
}

// right says whether all is as the last script made it.
func (f *Firewall) right(t table, rules []string) bool {
	if !slices.Equal(f.kept.rules, rules) || !slices.Equal(f.kept.shown, t[f.chain]) {
		return false
	}
	for hook, wanted := range hooks(t) {
		if f.hooked(t, hook) != wanted {
			return false
		}
	}
	return true
}

// sortedHooks are the chains of others that are there: the kernel's always are, also
// in a table that nobody has used yet.
func sortedHooks(t table) []string {
	if _, ok := t[chainDocker]; ok {
		return []string{chainInput, chainForward, chainDocker}
	}
	return []string{chainInput, chainForward}
}
