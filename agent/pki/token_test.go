package pki

import (
	"errors"
	"strings"
	"testing"
)

func newToken(t testing.TB) Token {
	t.Helper()
	k, err := NewToken(strings.Repeat("0f", 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokenRoundTrip(t *testing.T) {
	k := newToken(t)
	got, err := ParseToken("\n " + k.String() + " \n")
	if err != nil || got != k {
		t.Fatalf("%v, %v", got, err)
	}
	if again, err := TokenOf(k.PinnedCA(), k.Secret[:]); err != nil || again != k || again.Digest() != SecretDigest(k.Secret[:]) {
		t.Errorf("from its parts: %v, %v", again, err)
	}
	if other := newToken(t); other.Secret == k.Secret {
		t.Error("two tokens have one secret")
	}
	if _, err := NewToken("abc"); err == nil {
		t.Error("a CA that is no digest passed")
	}
	if _, err := TokenOf(k.PinnedCA(), k.Secret[:15]); err == nil {
		t.Error("a short secret passed")
	}
}

// TestEveryTypoIsTold: one wrong letter anywhere, and the error never shows the token.
func TestEveryTypoIsTold(t *testing.T) {
	text := newToken(t).String()
	for i := range text {
		for _, wrong := range []byte{'a', 'b', '7', 'A', ' ', '0'} {
			if text[i] == wrong {
				continue
			}
			typo := text[:i] + string(wrong) + text[i+1:]
			if strings.TrimSpace(typo) == text {
				continue
			}
			_, err := ParseToken(typo)
			if !errors.Is(err, ErrToken) {
				t.Fatalf("letter %d as %q: %v", i, wrong, err)
			}
			if strings.Contains(err.Error(), text[10:30]) || strings.Contains(err.Error(), text[40:60]) {
				t.Fatalf("the error shows the token: %v", err)
			}
		}
	}
	for _, bad := range []string{"", "orch1-", text[:len(text)-1], text + "a", "orch2-" + text[6:], strings.ToUpper(text)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%d letters passed: %v", len(bad), err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("orch1-")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if k.String() != strings.TrimSpace(text) {
			t.Fatalf("%q is read as %q", text, k)
		}
	})
}
