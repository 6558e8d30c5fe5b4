package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// ErrSealed means that a sealed value can not be opened with this key.
var ErrSealed = errors.New("sealed value does not open")

// SealKeyLen is the length of a cluster's key, in bytes.
const SealKeyLen = 32

// sealVersion opens a sealed value: AES-256-GCM whose nonce is an HMAC of purpose and
// text. Equal values for one purpose are sealed to equal bytes, so that a spec which
// has not changed is seen not to have; two different values share a nonce with a
// chance of 2^-48 after 2^24 values.
const sealVersion = 1

// NewSealKey makes the key of a cluster.
func NewSealKey() []byte {
	b := make([]byte, SealKeyLen)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// Seal hides text from everybody without key. purpose says what the text is for; it
// opens for no other.
func Seal(key []byte, purpose string, text []byte) ([]byte, error) {
	aead, mac, err := sealers(key)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, mac)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(text)
	nonce := h.Sum(nil)[:aead.NonceSize()]
	return aead.Seal(append([]byte{sealVersion}, nonce...), nonce, text, []byte(purpose)), nil
}

// Open returns what Seal hid.
func Open(key []byte, purpose string, sealed []byte) ([]byte, error) {
	aead, _, err := sealers(key)
	if err != nil {
		return nil, err
	}
	head := 1 + aead.NonceSize()
	if len(sealed) < head || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: %s: unknown form", ErrSealed, purpose)
	}
	text, err := aead.Open(nil, sealed[1:head], sealed[head:], []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: another key, or damaged", ErrSealed, purpose)
	}
	return text, nil
}

func sealers(key []byte) (cipher.AEAD, []byte, error) {
	if len(key) != SealKeyLen {
		return nil, nil, fmt.Errorf("%w: a cluster's key has %d bytes, this one %d", ErrSealed, SealKeyLen, len(key))
	}
	enc, err := hkdf.Key(sha256.New, key, nil, "orch seal", 32)
	if err != nil {
		return nil, nil, err
	}
	mac, err := hkdf.Key(sha256.New, key, nil, "orch seal nonce", 32)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(enc)
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, mac, err
}
