package membership

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestReplayedPackets: real packets of a node that is gone, sent again, do not bring it
// back, and harm nobody. They are taken from the loopback device, which takes root.
func TestReplayedPackets(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root may listen to a device")
		}
		t.Skip("only root may listen to a device")
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const all = syscall.ETH_P_ALL<<8&0xff00 | syscall.ETH_P_ALL>>8
	tap, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(tap)
	if err := syscall.Bind(tap, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetsockoptTimeval(tap, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	key[0] = 1
	_, n := three(t, func(cfg *Config) { cfg.Keys = [][]byte{key} })
	var packets [][]byte
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(20 * time.Second); len(packets) < 60; {
		if time.Now().After(deadline) {
			t.Fatalf("only %d packets were seen", len(packets))
		}
		size, _, err := syscall.Recvfrom(tap, buf, 0)
		if err != nil {
			continue // silence, for a moment
		}
		if p, to := datagram(buf[:size]); len(p) > 0 && to == port(t, n[0].Addr()) {
			packets = append(packets, append([]byte(nil), p...))
		}
	}
	n[2].kill(t)
	until(t, "c is found dead", func() bool { return n[0].sees("c").Status == Dead && n[1].sees("c").Status == Dead })
	again, err := net.Dial("udp", n[0].Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for range 20 {
		for _, p := range packets {
			if _, err := again.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, own := range n[:2] {
			if s := own.sees("c").Status; s != Dead {
				t.Fatalf("%s takes c for %s", own.cfg.ID, s)
			}
		}
	}
	// What is said now is heard all the same.
	if err := n[0].SetMeta(Meta{Version: "after"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the others hear", func() bool { return n[1].sees("a").Meta.Version == "after" })
	for _, own := range n[:2] {
		if got := own.sees("c").Status; got != Dead || trouble(own) != "" && len(own.Members()) != 3 {
			t.Errorf("%s: c is %s, %d members", own.cfg.ID, got, len(own.Members()))
		}
	}
}

// datagram is the payload of a frame that holds UDP over IPv4, and its port.
func datagram(frame []byte) (payload []byte, to int) {
	if len(frame) < 14+20+8 || frame[12] != 8 || frame[13] != 0 {
		return nil, 0
	}
	ip := frame[14:]
	head := int(ip[0]&15) * 4
	if ip[9] != syscall.IPPROTO_UDP || len(ip) < head+8 {
		return nil, 0
	}
	udp := ip[head:]
	return udp[8:], int(binary.BigEndian.Uint16(udp[2:4]))
}
