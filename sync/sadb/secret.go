package sadb

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"runtime"
)

// Secret is key material. It prints as its length only, whatever the verb, and
// marshals to JSON and slog as its length, so that no log line, error, metric
// or panic message can carry a key. Use Bytes where the key itself is needed.
//
// A key is overwritten once nobody holds its secret any more, or a copy of it: by
// the garbage collector's next turn, which the runtime forces every two minutes.
// So whoever lets go of an SA need not know who else has it.
//
// The zero value is an empty secret.
type Secret struct{ b []byte }

// NewSecret copies b into a Secret. The caller keeps ownership of b.
func NewSecret(b []byte) Secret {
	dst := room(len(b))
	copy(dst, b)
	return Secret{dst}
}

// Sizes of keys: nearly all, and all that a record of sync/wire can hold. They are
// arrays of their own because memory that is overwritten when it is let go may not
// point to itself, as a Block does, and may not share an allocation with others.
type (
	smallKey [48]byte
	largeKey [256]byte
	hugeKey  [16 << 10]byte
)

// room returns memory for a key of n bytes that is overwritten when it is let go.
// Keys beyond 16 KiB, which no algorithm has, are not.
func room(n int) []byte {
	switch {
	case n == 0:
		return nil
	case n <= len(smallKey{}):
		k := new(smallKey)
		runtime.SetFinalizer(k, func(k *smallKey) { *k = smallKey{} })
		return k[:n:n]
	case n <= len(largeKey{}):
		k := new(largeKey)
		runtime.SetFinalizer(k, func(k *largeKey) { *k = largeKey{} })
		return k[:n:n]
	case n <= len(hugeKey{}):
		k := new(hugeKey)
		runtime.SetFinalizer(k, func(k *hugeKey) { clear(k[:]) })
		return k[:n:n]
	}
	return make([]byte, n)
}

// Bytes returns the key. The result aliases the secret and must not be changed.
func (s Secret) Bytes() []byte { return s.b }

// Len returns the length of the key in bytes.
func (s Secret) Len() int { return len(s.b) }

// Equal compares two secrets in constant time for equal lengths.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.b, o.b) == 1 }

// IsZero reports whether the key is not empty and consists of zero bytes only,
// as a kernel in confidentiality lockdown reports every key.
func (s Secret) IsZero() bool {
	if len(s.b) == 0 {
		return false
	}
	var or byte
	for _, c := range s.b {
		or |= c
	}
	return or == 0
}

// String returns a placeholder with the length of the key.
func (s Secret) String() string { return fmt.Sprintf("<secret %d bytes>", len(s.b)) }

// GoString returns the same placeholder for %#v.
func (s Secret) GoString() string { return s.String() }

// Format makes every verb, %x included, print the placeholder.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText returns the placeholder, for JSON and other encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns the placeholder for structured logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
