package acts

import (
	"encoding/base64"
	"testing"
)

// BenchmarkParseAct is what an upload of 300 KiB costs before it is stored.
func BenchmarkParseAct(b *testing.B) {
	body := []byte(anAct(1, map[string]any{"imgB64": base64.StdEncoding.EncodeToString(make([]byte, 300<<10))}))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseAct(body, maxPhoto); err != nil {
			b.Fatal(err)
		}
	}
}
