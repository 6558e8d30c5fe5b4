package membership

import (
	"bytes"
	"testing"
)

// TestKeysAreExchanged while gossip runs: first all read the new key, then it is written
// with, then the old one goes; nobody is lost on the way, and who knows nothing but the
// old key stays out.
func TestKeysAreExchanged(t *testing.T) {
	old, fresh := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 32)
	c, nodes := three(t, func(cfg *Config) { cfg.Keys = [][]byte{old} })
	all := func() bool {
		for _, n := range nodes {
			for _, m := range n.Members() {
				if m.Status != Alive {
					return false
				}
			}
			if len(n.Members()) != 3 {
				return false
			}
		}
		return true
	}
	for _, step := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} {
		for _, n := range nodes {
			if err := n.SetKeys(step); err != nil {
				t.Fatal(err)
			}
		}
		// A change of metadata travels by gossip, with the key of now.
		if err := nodes[0].SetMeta(Meta{API: "a", Version: string(step[0][:1]) + string(rune('0'+len(step)))}); err != nil {
			t.Fatal(err)
		}
		want := string(step[0][:1]) + string(rune('0'+len(step)))
		until(t, "the others hear by the keys of now", func() bool {
			return nodes[1].sees("a").Meta.Version == want && nodes[2].sees("a").Meta.Version == want && all()
		})
	}
	late := c.config("late", "127.0.0.7")
	late.Keys = [][]byte{old}
	stranger := c.start(late)
	until(t, "the old key lets nobody in", func() bool { return trouble(stranger) != "" })
	if got := len(stranger.Members()); got != 1 {
		t.Errorf("it sees %d nodes", got)
	}
	for _, bad := range [][][]byte{nil, {[]byte("short")}} {
		if err := nodes[0].SetKeys(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	plain, err := New(c.config("plain", "127.0.0.8"))
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.SetKeys([][]byte{old}); err == nil {
		t.Error("plain gossip takes a key")
	}
}
