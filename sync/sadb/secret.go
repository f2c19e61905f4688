package sadb

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Secret is key material. It prints as its length only, whatever the verb, and
// marshals to JSON and slog as its length, so that no log line, error, metric
// or panic message can carry a key. Use Bytes where the key itself is needed.
//
// The zero value is an empty secret.
type Secret struct{ b []byte }

// NewSecret copies b into a Secret. The caller keeps ownership of b.
func NewSecret(b []byte) Secret { return Secret{append([]byte(nil), b...)} }

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
