package proxy

import (
	"io"
	"strings"
	"testing"
)

// TestFarewellIsBounded: who never closes a connection that has been refused, or goes on
// to send, does not keep it.
func TestFarewellIsBounded(t *testing.T) {
	const buffers = 16 << 20 // bytes that the kernel may hold between the two
	for name, more := range map[string]func(*speaker) int{
		"silent": func(c *speaker) int { return 0 },
		"sending": func(c *speaker) int {
			for n, piece := 0, noise(32<<10); ; {
				m, err := c.Write(piece)
				if n += m; err != nil {
					return n
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "n1", &counter{}, acts(1, backend(t, 1, nil)))
			c := call(t, p)
			c.say("GET / HTTP/9.9\r\n\r\n")
			if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 505 ") {
				t.Fatalf("%q", head)
			}
			io.Copy(io.Discard, c.in) // to the end of the proxy's side
			if n := more(c); n > lingerBytes+buffers {
				t.Errorf("%d bytes more were taken", n)
			}
			until(t, "the connection ends", func() bool { return p.metrics.conns.Load() == 0 })
		})
	}
}
