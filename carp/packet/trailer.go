package packet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"net/netip"
)

// TrailerLen is the length of the authentication trailer in bytes.
const TrailerLen = 28

const (
	trailerHMAC    = 1 // HMAC-SHA256, 128 bits of it
	trailerSigned  = TrailerLen - 16
	trailerPseudo  = 20
	checksumOffset = 6
)

// Errors of Trailer.Parse.
var (
	ErrTrailerLength = errors.New("authentication trailer is not 28 bytes long")
	ErrTrailerType   = errors.New("authentication trailer is of an unknown type")
)

// Trailer is the authentication trailer of draft-cassen-vrrp-auth-hmac, which
// follows a VRRPv3 message (keepalived from 2.4.2 on) and, between daemons of
// ours, a CARP message.
type Trailer struct {
	KeyID  uint8
	Seq    uint64 // 32 bits of seconds, 16 bits of fraction, 16 bits of counter; grows per sender
	Digest [16]byte
}

// Parse reads a trailer.
func (t *Trailer) Parse(b []byte) error {
	if len(b) != TrailerLen {
		return ErrTrailerLength
	}
	if b[0] != trailerHMAC {
		return ErrTrailerType
	}
	t.KeyID = b[1]
	t.Seq = binary.BigEndian.Uint64(b[4:])
	copy(t.Digest[:], b[trailerSigned:])
	return nil
}

// Append appends the trailer to b.
func (t *Trailer) Append(b []byte) []byte {
	b = append(b, trailerHMAC, t.KeyID, 0, 0)
	b = binary.BigEndian.AppendUint64(b, t.Seq)
	return append(b, t.Digest[:]...)
}

// TrailerKey signs and verifies trailers with one key. Not for concurrent use.
type TrailerKey struct {
	mac hash.Hash
	buf []byte
	out [sha256.Size]byte
}

// NewTrailerKey takes a shared key; the draft asks for 32 to 64 bytes.
func NewTrailerKey(key []byte) *TrailerKey {
	return &TrailerKey{mac: hmac.New(sha256.New, key), buf: make([]byte, 0, 512)}
}

// Sign fills in the digest of t for a message (CARP or VRRP, without trailer)
// sent from src. The checksum bytes of the message count as zero.
func (k *TrailerKey) Sign(t *Trailer, message []byte, src netip.Addr) {
	copy(t.Digest[:], k.sum(t, message, src))
}

// Verify reports whether t is the trailer of message sent from src.
func (k *TrailerKey) Verify(t *Trailer, message []byte, src netip.Addr) bool {
	return hmac.Equal(k.sum(t, message, src), t.Digest[:])
}

func (k *TrailerKey) sum(t *Trailer, message []byte, src netip.Addr) []byte {
	b := k.buf[:0]
	var head [trailerPseudo]byte
	head[0] = 6
	if src.Is4() {
		head[0] = 4
		x := src.As4()
		copy(head[4:], x[:])
	} else {
		x := src.As16()
		copy(head[4:], x[:])
	}
	if len(message) >= 2 {
		head[1], head[2] = message[0]>>4, message[1]
	}
	b = append(b, head[:]...)
	at := len(b)
	b = append(b, message...)
	if len(message) >= checksumOffset+2 {
		b[at+checksumOffset], b[at+checksumOffset+1] = 0, 0
	}
	unsigned := Trailer{KeyID: t.KeyID, Seq: t.Seq}
	b = unsigned.Append(b)
	k.buf = b[:0]
	k.mac.Reset()
	k.mac.Write(b)
	return k.mac.Sum(k.out[:0])[:16]
}
