package membership

import (
	"errors"
	"fmt"
	"slices"
)

// SetKeys replaces the keys, also while gossip runs: all of them are read, the first
// is written with. Packets that are under way with a key that goes are lost, which
// gossip is made for.
func (l *List) SetKeys(keys [][]byte) error {
	if l.keys == nil || len(keys) == 0 {
		return errors.New("gossip keys: gossip that began plain stays so, and other gossip needs a key")
	}
	for _, k := range keys {
		if err := l.keys.AddKey(k); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	if err := l.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	for _, k := range slices.Clone(l.keys.GetKeys()) {
		if slices.ContainsFunc(keys, func(x []byte) bool { return slices.Equal(x, k) }) {
			continue
		}
		if err := l.keys.RemoveKey(k); err != nil {
			return fmt.Errorf("gossip key: %w", err)
		}
	}
	return nil
}
