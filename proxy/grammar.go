package proxy

import (
	"encoding/binary"
	"math/bits"
)

// The bytes that RFC 9110 and 9112 allow, and nothing else.

const (
	isToken  = 1 << iota // of methods and field names (RFC 9110, 5.6.2)
	isTarget             // of a request target: visible ASCII but for what no URI has
	isHost               // of a Host: reg-name, IP-literal, port (RFC 3986, 3.2.2)
	isID                 // of a request ID that is kept
)

var classes = func() (t [256]byte) {
	set := func(class byte, s string) {
		for i := range len(s) {
			t[s[i]] |= class
		}
	}
	const alnum = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	set(isToken, alnum+"!#$%&'*+-.^_`|~")
	set(isTarget, alnum+"!$%&'()*+,-./:;=?@_~[]|^`{}\"<>\\")
	set(isHost, alnum+"-._~!$&'()*+,;=:[]%")
	set(isID, alnum+"-._:=+/")
	return t
}()

func all(b []byte, class byte) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

// validValue says whether b has no control byte but the tab; eight bytes at a time.
func validValue(b []byte) bool {
	const ones = 0x0101010101010101
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		low := (x - ones*0x20) &^ x & (ones * 0x80) // any below a space
		del := x ^ ones*0x7f
		if low|((del-ones)&^del&(ones*0x80)) != 0 {
			break
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim removes spaces and tabs at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// fold says whether b is s in any case; s is in lower case.
func fold[T []byte | string](b T, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// decimal reads a Content-Length: digits only, and no more than 2^62.
func decimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func appendHex(b []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for i := max(bits.Len64(n)-1, 0) / 4; i >= 0; i-- {
		b = append(b, digits[n>>(4*i)&15])
	}
	return b
}

// escapesValid says whether every % of a target begins an escape.
func escapesValid(b []byte) bool {
	for i, c := range b {
		if c == '%' && (i+2 >= len(b) || unhex(b[i+1]) < 0 || unhex(b[i+2]) < 0) {
			return false
		}
	}
	return true
}
