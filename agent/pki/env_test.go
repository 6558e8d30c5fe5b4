package pki

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSealedEnvironment(t *testing.T) {
	key := NewSealKey()
	sealed, err := SealEnv(key, "acts", "DSN", "postgres://secret")
	if err != nil || !SealedEnv(sealed) || strings.Contains(sealed, "secret") {
		t.Fatalf("%q, %v", sealed, err)
	}
	if text, err := OpenEnv(key, "acts", "DSN", sealed); err != nil || text != "postgres://secret" {
		t.Errorf("%q, %v", text, err)
	}
	for name, open := range map[string]func() (string, error){
		"another key":     func() (string, error) { return OpenEnv(NewSealKey(), "acts", "DSN", sealed) },
		"another service": func() (string, error) { return OpenEnv(key, "users", "DSN", sealed) },
		"another name":    func() (string, error) { return OpenEnv(key, "acts", "DS", sealed) },
		"a plain value":   func() (string, error) { return OpenEnv(key, "acts", "DSN", "plain") },
		"cut short":       func() (string, error) { return OpenEnv(key, "acts", "DSN", sealed[:len(sealed)-2]) },
	} {
		if text, err := open(); !errors.Is(err, ErrSealed) || text != "" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for _, plain := range []string{"", "plain", "sealed:xyz", "sealed"} {
		if SealedEnv(plain) {
			t.Errorf("%q is taken for sealed", plain)
		}
	}
}

func TestSealKeyFile(t *testing.T) {
	key := NewSealKey()
	file := EncodeSealKey(key)
	if again, err := DecodeSealKey(file); err != nil || !bytes.Equal(again, key) {
		t.Errorf("%v", err)
	}
	for _, bad := range [][]byte{nil, file[:60], append([]byte("x"), file...), []byte(strings.Repeat("zz", SealKeyLen))} {
		if _, err := DecodeSealKey(bad); !errors.Is(err, ErrSealed) || len(bad) > 8 && strings.Contains(err.Error(), string(bad[:8])) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
