package conf

import (
	"bytes"
	"strings"

	"sasyncd/sync/sadb"
)

// weakWords are what people write when they are asked for a key. The examples of
// manuals are among them.
var weakWords = []string{"password", "passwort", "passw0rd", "p@ssw0rd",
	"secret", "geheim", "letmein", "changeme", "change-me", "welcome", "qwerty",
	"qwertz", "asdfgh", "iloveyou", "admin", "master", "sasyncd", "openbsd", "strongswan", "libreswan", "sharedkey",
	"presharedkey", "mekmitasdigoat",
	"0123456789", "123456", "987654321", "abcdefgh", "deadbeef"}

// guessable reports whether a key is one that an attacker tries first: a pattern, a
// text with a well-known word, or, of a key that was to be random, printable text.
func guessable(s sadb.Secret, text bool) bool {
	b := s.Bytes()
	if len(b) == 0 {
		return false
	}
	// Random keys have each of these with a probability below 10^-6.
	if different(b) <= len(b)/4 || repeats(b) || steady(b) {
		return true
	}
	if !text {
		return !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' })
	}
	lower := strings.ToLower(string(b))
	for _, w := range weakWords {
		if strings.Contains(lower, w) {
			return true
		}
	}
	return false
}

// different counts the bytes that differ from each other.
func different(b []byte) int {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// repeats reports whether a key is the same part at least twice.
func repeats(b []byte) bool {
	for n := 1; n <= len(b)/2; n++ {
		if bytes.Equal(b[n:], b[:len(b)-n]) {
			return true
		}
	}
	return false
}

// steady reports whether each byte is as far from the one before as all others.
func steady(b []byte) bool {
	for i := 2; i < len(b); i++ {
		if b[i]-b[i-1] != b[1]-b[0] {
			return false
		}
	}
	return true
}

// weakKey warns of a key that can be guessed. It does not say how, as the warning
// gets into logs.
func (d *diagnostics) weakKey(k sadb.Secret, text bool, at Pos) {
	if guessable(k, text) {
		d.warnf(at, "write 0x and the digits that openssl rand -hex 32 prints",
			"the key can be guessed: it is a pattern, has a well-known word in it, or is text written in hexadecimal")
	}
}
