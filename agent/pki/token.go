package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// ErrToken means that a text is not a join token. The error never holds the text.
var ErrToken = errors.New("not a join token")

// Token lets a node in: the joiner knows the cluster by the digest of its CA, and the
// cluster knows the joiner by the secret.
type Token struct {
	CA     [sha256.Size]byte
	Secret [16]byte // 128 bits: nobody guesses it, at any rate
}

// A token is written orch1-BODY. Its body, in base32 of lower case, is the digest, the
// secret and a CRC-32C of all before, the version too: a letter that is wrong is told.
const (
	tokenPrefix = "orch1-"
	tokenLen    = sha256.Size + 16 + 4
)

var (
	tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	tokenCRC  = crc32.MakeTable(crc32.Castagnoli)
)

// NewToken makes a token for the cluster of a CA, given by its Digest.
func NewToken(ca string) (Token, error) {
	var t Token
	if _, err := rand.Read(t.Secret[:]); err != nil {
		return t, err
	}
	return t, t.pin(ca)
}

// TokenOf puts a token together from its parts.
func TokenOf(ca string, secret []byte) (Token, error) {
	var t Token
	if copy(t.Secret[:], secret) != len(t.Secret) || len(secret) != len(t.Secret) {
		return t, ErrToken
	}
	return t, t.pin(ca)
}

func (t *Token) pin(ca string) error {
	b, err := hex.DecodeString(ca)
	if err != nil || copy(t.CA[:], b) != len(t.CA) {
		return fmt.Errorf("token: digest of the CA %q: give SHA-256 in hex", ca)
	}
	return nil
}

// String is the whole token, secret included: for the one who shall have it.
func (t Token) String() string {
	b := append(append(make([]byte, 0, tokenLen), t.CA[:]...), t.Secret[:]...)
	b = binary.BigEndian.AppendUint32(b, tokenSum(b))
	return tokenPrefix + tokenText.EncodeToString(b)
}

// Digest names the secret in the table, where the secret itself stands only sealed.
func (t Token) Digest() string { return digest(t.Secret[:]) }

// PinnedCA is the Digest of the CA.
func (t Token) PinnedCA() string { return hex.EncodeToString(t.CA[:]) }

func tokenSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(tokenPrefix), tokenCRC), tokenCRC, b)
}

// ParseToken reads what String wrote, with blanks around it.
func ParseToken(text string) (Token, error) {
	var t Token
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, tokenPrefix)
	switch {
	case text == "":
		return t, fmt.Errorf("%w: it is empty; 'orchctl token show' on a node of the cluster prints one", ErrToken)
	case !ok:
		return t, fmt.Errorf("%w: one begins with %q; 'orchctl token show' on a node of the cluster prints it", ErrToken, tokenPrefix)
	case len(body) != tokenText.EncodedLen(tokenLen):
		return t, fmt.Errorf("%w: it has %d letters instead of %d: copy all of the line", ErrToken, len(text), len(tokenPrefix)+tokenText.EncodedLen(tokenLen))
	}
	b, err := tokenText.DecodeString(body)
	if err != nil || tokenText.EncodeToString(b) != body { // spare bits must be zero
		return t, fmt.Errorf("%w: a letter in it is none that a token has: copy it again", ErrToken)
	}
	if binary.BigEndian.Uint32(b[tokenLen-4:]) != tokenSum(b[:tokenLen-4]) {
		return t, fmt.Errorf("%w: a letter in it is wrong (its checksum does not fit): copy it again", ErrToken)
	}
	copy(t.CA[:], b)
	copy(t.Secret[:], b[len(t.CA):])
	return t, nil
}

// SecretDigest is the Digest of a token with that secret.
func SecretDigest(secret []byte) string { return digest(secret) }
