package pki

import (
	"bytes"
	"errors"
	"testing"
)

func TestSeal(t *testing.T) {
	key, text := NewSealKey(), []byte("swordfish")
	sealed, err := Seal(key, "env acts PASSWORD", text)
	if err != nil || bytes.Contains(sealed, text) {
		t.Fatalf("%x, %v", sealed, err)
	}
	if got, err := Open(key, "env acts PASSWORD", sealed); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q, %v", got, err)
	}
	if again, _ := Seal(key, "env acts PASSWORD", text); !bytes.Equal(again, sealed) {
		t.Error("the same value is sealed to other bytes: each apply of a spec would change it")
	}
	if other, _ := Seal(key, "env web PASSWORD", text); bytes.Equal(other, sealed) {
		t.Error("two purposes give the same bytes")
	}
	for name, open := range map[string]func() ([]byte, error){
		"another key":     func() ([]byte, error) { return Open(NewSealKey(), "env acts PASSWORD", sealed) },
		"another purpose": func() ([]byte, error) { return Open(key, "env web PASSWORD", sealed) },
		"a flipped bit": func() ([]byte, error) {
			b := bytes.Clone(sealed)
			b[len(b)-1] ^= 1
			return Open(key, "env acts PASSWORD", b)
		},
		"a cut":        func() ([]byte, error) { return Open(key, "env acts PASSWORD", sealed[:10]) },
		"nothing":      func() ([]byte, error) { return Open(key, "env acts PASSWORD", nil) },
		"a short key":  func() ([]byte, error) { return Open(key[:16], "env acts PASSWORD", sealed) },
		"a newer form": func() ([]byte, error) { return Open(key, "env acts PASSWORD", append([]byte{2}, sealed[1:]...)) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	key := bytes.Repeat([]byte{7}, SealKeyLen)
	sealed, err := Seal(key, "p", []byte("text"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := Open(key, "p", b); err == nil {
			again, err := Seal(key, "p", text)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x opens to %q", b, text)
			}
		}
	})
}
