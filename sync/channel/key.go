package channel

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"golang.org/x/crypto/argon2"

	"sasyncd/sync/sadb"
)

// MaxKeys is the largest number of keys that a node accepts at a time. Every
// stranger costs a MAC for each.
const MaxKeys = 8

// Spec is a shared key as it was configured, not yet stretched. It prints as
// its kind and length.
type Spec struct {
	secret sadb.Secret
	random bool // from hexadecimal, taken as random
}

// NewSpec returns the shared key of an already parsed configuration: random
// bytes, or characters that are stretched when it is derived.
func NewSpec(secret sadb.Secret, random bool) (Spec, error) {
	switch secret.Len() {
	case 16, 24, 32:
		return Spec{secret, random}, nil
	}
	return Spec{}, fmt.Errorf("shared key has %d bytes, must have 16, 24 or 32", secret.Len())
}

// ParseSpec reads a shared key: 0x and 32, 48 or 64 hexadecimal digits, or
// exactly 16, 24 or 32 characters of printable ASCII without blanks. The error
// tells lengths, never contents.
func ParseSpec(text string) (Spec, error) {
	if digits, ok := strings.CutPrefix(text, "0x"); ok && isHex(digits) {
		switch len(digits) {
		case 32, 48, 64:
			return Spec{sadb.NewSecret(unhex(digits)), true}, nil
		}
		return Spec{}, fmt.Errorf("shared key has %d hexadecimal digits, must have 32, 48 or 64", len(digits))
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return Spec{}, fmt.Errorf("shared key has a byte at position %d that is not a printable ASCII character",
				i+1)
		}
	}
	switch len(text) {
	case 16, 24, 32:
		return Spec{sadb.NewSecret([]byte(text)), false}, nil
	}
	return Spec{}, fmt.Errorf("shared key has %d characters, must have 16, 24 or 32, or be 0x and 32, 48 or 64 "+
		"hexadecimal digits", len(text))
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// unhex is encoding/hex without errors that quote the input.
func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range b {
		b[i] = nibble(s[2*i])<<4 | nibble(s[2*i+1])
	}
	return b
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// String returns the kind and length of the key.
func (s Spec) String() string {
	if s.random {
		return fmt.Sprintf("<key of %d bytes>", s.secret.Len())
	}
	return fmt.Sprintf("<key of %d characters>", s.secret.Len())
}

// GoString and Format keep every verb from showing more.
func (s Spec) GoString() string { return s.String() }

// Format makes every verb print what String returns.
func (s Spec) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue returns the kind and length for structured logs.
func (s Spec) LogValue() slog.Value { return slog.StringValue(s.String()) }

// KeyID tells keys of one process apart. It never goes on the wire or into a
// log.
type KeyID [8]byte

// Keys are shared keys made ready: the first is used to dial, all are
// accepted. Keys are immutable and print as their number. The zero Keys
// accepts nobody.
type Keys struct{ list []*key }

// key is one shared key made ready.
type key struct {
	id                KeyID
	mac               [32]byte
	dialler, listener identity
}

// Derive makes keys ready. A key of characters takes about 0.1 s and 64 MiB of
// memory, which is returned. Repeated keys count once; there may be 1 to
// MaxKeys.
func Derive(specs ...Spec) (Keys, error) {
	if len(specs) == 0 || len(specs) > MaxKeys {
		return Keys{}, fmt.Errorf("%d shared keys, must be 1 to %d", len(specs), MaxKeys)
	}
	var ks Keys
	stretched := false
	for _, s := range specs {
		root, err := s.root()
		if err != nil {
			return Keys{}, err
		}
		stretched = stretched || !s.random
		k, err := newKey(root)
		if err != nil {
			return Keys{}, err
		}
		if !ks.Has(k.id) {
			ks.list = append(ks.list, k)
		}
	}
	if stretched {
		debug.FreeOSMemory() // argon2id's memory would stay resident
	}
	return ks, nil
}

// Labels of derivation. A change of any makes another protocol.
const (
	saltRandom  = "sasyncd channel 1 random key"
	saltASCII   = "sasyncd channel 1 ascii key"
	saltArgon2  = "sasyncd channel 1 argon2id"
	infoMAC     = "preface mac"
	infoDial    = "dialler ed25519"
	infoListen  = "listener ed25519"
	infoID      = "local id"
	argonTime   = 3
	argonMemory = 64 << 10 // KiB
	argonLanes  = 4
)

// root returns the secret that all else is derived from by HKDF (RFC 5869).
// Characters go through argon2id with the second recommendation of RFC 9106
// and a fixed salt: both nodes must come to the same.
func (s Spec) root() ([]byte, error) {
	switch {
	case s.secret.Len() == 0:
		return nil, errors.New("shared key is empty")
	case s.random:
		return hkdf.Extract(sha256.New, s.secret.Bytes(), []byte(saltRandom))
	}
	slow := argon2.IDKey(s.secret.Bytes(), []byte(saltArgon2), argonTime, argonMemory, argonLanes, 32)
	return hkdf.Extract(sha256.New, slow, []byte(saltASCII))
}

func newKey(root []byte) (*key, error) {
	k := new(key)
	for info, into := range map[string][]byte{infoMAC: k.mac[:], infoID: k.id[:]} {
		b, err := hkdf.Expand(sha256.New, root, info, len(into))
		if err != nil {
			return nil, fmt.Errorf("derive %s: %w", info, err)
		}
		copy(into, b)
	}
	for info, into := range map[string]*identity{infoDial: &k.dialler, infoListen: &k.listener} {
		seed, err := hkdf.Expand(sha256.New, root, info, 32)
		if err != nil {
			return nil, fmt.Errorf("derive %s: %w", info, err)
		}
		if *into, err = newIdentity(seed); err != nil {
			return nil, fmt.Errorf("derive %s: %w", info, err)
		}
	}
	return k, nil
}

// Len returns the number of keys.
func (ks Keys) Len() int { return len(ks.list) }

// Has reports whether the key is among ks: a connection made under one that is
// not has to be replaced.
func (ks Keys) Has(id KeyID) bool { return ks.Index(id) >= 0 }

// Index returns the position of the key, 0 for the one used to dial, -1 when
// it is not among ks.
func (ks Keys) Index(id KeyID) int {
	for i, k := range ks.list {
		if k.id == id {
			return i
		}
	}
	return -1
}

// String returns the number of keys.
func (ks Keys) String() string { return fmt.Sprintf("<%d keys>", len(ks.list)) }

// GoString returns the number of keys for %#v.
func (ks Keys) GoString() string { return ks.String() }

// Format makes every verb print the number of keys.
func (ks Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(ks.String())) }

// LogValue returns the number of keys for structured logs.
func (ks Keys) LogValue() slog.Value { return slog.StringValue(ks.String()) }
