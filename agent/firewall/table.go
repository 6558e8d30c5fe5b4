package firewall

import (
	"bufio"
	"io"
	"strings"
)

// table is the filter table: the rules of each chain, in order, without the chain's name.
type table map[string][]string

// parse reads what iptables-save prints of one table (man 8 iptables-save).
func parse(r io.Reader) (table, error) {
	t := table{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRule)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			t[name] = []string{}
			continue
		}
		if rule, ok := strings.CutPrefix(line, "-A "); ok {
			name, rest, _ := strings.Cut(rule, " ")
			t[name] = append(t[name], rest)
		}
	}
	return t, lines.Err()
}

// maxRule is the longest line of a listing; a rule of iptables has at most some
// kilobytes (comments of 256 bytes, 15 ports).
const maxRule = 1 << 20

// jumps counts the unconditional jumps from one chain to another.
func (t table) jumps(from, to string) (n int) {
	for _, r := range t[from] {
		if r == "-j "+to {
			n++
		}
	}
	return n
}

// reaches is true where a chain jumps to another before it is done with every packet.
// Rules with a condition before the jump are somebody's exceptions and are left alone.
func (t table) reaches(from, to string) bool {
	for _, r := range t[from] {
		switch r {
		case "-j " + to:
			return true
		case "-j ACCEPT", "-j RETURN":
			return false
		}
	}
	return false
}
