package pki

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// sealedPrefix marks a value of an environment that is sealed.
const sealedPrefix = "sealed:"

// SealEnv seals a value of a service's environment as text for its spec.
func SealEnv(key []byte, service, name, value string) (string, error) {
	sealed, err := Seal(key, envPurpose(service, name), []byte(value))
	if err != nil {
		return "", err
	}
	return sealedPrefix + hex.EncodeToString(sealed), nil
}

// SealedEnv says whether a value is one that SealEnv made, by whatever key.
func SealedEnv(value string) bool {
	_, ok := cutSealed(value)
	return ok
}

// OpenEnv returns the value that SealEnv sealed for that service and name.
func OpenEnv(key []byte, service, name, value string) (string, error) {
	sealed, ok := cutSealed(value)
	if !ok {
		return "", fmt.Errorf("%w: %s: it was never sealed", ErrSealed, name)
	}
	text, err := Open(key, envPurpose(service, name), sealed)
	return string(text), err
}

func cutSealed(v string) ([]byte, bool) {
	text, ok := strings.CutPrefix(v, sealedPrefix)
	if !ok {
		return nil, false
	}
	b, err := hex.DecodeString(text)
	return b, err == nil
}

func envPurpose(service, name string) string { return "env " + service + " " + name }

// EncodeSealKey writes the key of a cluster as the file cluster.key holds it.
func EncodeSealKey(key []byte) []byte { return []byte(hex.EncodeToString(key) + "\n") }

// DecodeSealKey reads what EncodeSealKey wrote. No error shows what was read.
func DecodeSealKey(b []byte) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != SealKeyLen {
		return nil, fmt.Errorf("%w: the key of a cluster is %d hex digits", ErrSealed, 2*SealKeyLen)
	}
	return key, nil
}
