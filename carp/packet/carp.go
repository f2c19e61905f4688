package packet

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // of the protocol
	"encoding/binary"
	"errors"
	"hash"
	"net/netip"
	"slices"
)

// Errors of CARP.Parse.
var (
	ErrCARPShort    = errors.New("carp message is shorter than 36 bytes")
	ErrCARPVersion  = errors.New("carp version or type is unknown")
	ErrCARPChecksum = errors.New("carp checksum is wrong")
	ErrCARPAuthLen  = errors.New("carp authentication length is not 7")
)

const (
	carpLen     = 36
	carpAuthLen = 7 // 32-bit words of counter and digest

	// MaxCARPPass is the number of bytes of a pass phrase that count.
	MaxCARPPass = 20
)

// CARP is an advertisement of CARP version 2.
type CARP struct {
	ID       uint8    // virtual host id, 1..255
	AdvSkew  uint8    // 1/256 s; 255 together with AdvBase 255 is a bow-out
	AdvBase  uint8    // seconds
	Demotion uint8    // OpenBSD only, 0 from others
	Counter  uint64   // random in practice, see CARPDigest
	Digest   [20]byte // HMAC-SHA1
	Trailer  []byte   // what follows the message; borrowed by Parse
}

// Parse reads the payload of an IP packet. The digest is not verified here. The
// checksum covers 36 bytes and no pseudo-header, in IPv6 too.
func (c *CARP) Parse(b []byte) error {
	if len(b) < carpLen {
		return ErrCARPShort
	}
	if b[0] != 0x21 {
		return ErrCARPVersion
	}
	if b[3] != carpAuthLen {
		return ErrCARPAuthLen
	}
	if fold(sum(0, b[:carpLen])) != 0 {
		return ErrCARPChecksum
	}
	c.ID, c.AdvSkew, c.Demotion, c.AdvBase = b[1], b[2], b[4], b[5]
	c.Counter = binary.BigEndian.Uint64(b[8:])
	copy(c.Digest[:], b[16:])
	c.Trailer = nil
	if len(b) > carpLen {
		c.Trailer = b[carpLen:]
	}
	return nil
}

// Append appends the message with its checksum, and the trailer, to b.
func (c *CARP) Append(b []byte) []byte {
	at := len(b)
	b = append(b, 0x21, c.ID, c.AdvSkew, carpAuthLen, c.Demotion, c.AdvBase, 0, 0)
	b = binary.BigEndian.AppendUint64(b, c.Counter)
	b = append(b, c.Digest[:]...)
	putChecksum(b[at:], 6, sum(0, b[at:]))
	return append(b, c.Trailer...)
}

// CARPKey computes digests for one virtual host: pass phrase, id and address
// set are mixed in once. All members must use the same set. The digest covers
// neither timing nor demotion nor sender, and nobody checks the counter, so it
// proves no more than that a member once sent a packet. Not for concurrent use.
type CARPKey struct {
	mac  hash.Hash
	head []byte
	out  [sha1.Size]byte
	tail [8]byte
}

// NewCARPKey prepares digests. Of the pass phrase the first 20 bytes count.
// Addresses may come in any order and repeat. linkLocal says whether IPv6
// link-local addresses are part of the digest: FreeBSD includes them, OpenBSD
// leaves them out when sending and accepts both.
func NewCARPKey(pass []byte, id uint8, addrs []netip.Addr, linkLocal bool) *CARPKey {
	pass = pass[:min(len(pass), MaxCARPPass)]
	set := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.Is6() && a.IsLinkLocalUnicast() && !linkLocal {
			continue
		}
		set = append(set, a)
	}
	// Compare sorts IPv4 before IPv6 and then by value, as the digest wants.
	slices.SortFunc(set, netip.Addr.Compare)
	set = slices.Compact(set)
	k := &CARPKey{mac: hmac.New(sha1.New, pass), head: []byte{2, 1, id}}
	for _, a := range set {
		k.head = append(k.head, a.AsSlice()...)
	}
	return k
}

// Digest is the digest of an advertisement with the given counter.
func (k *CARPKey) Digest(counter uint64) [sha1.Size]byte {
	k.mac.Reset()
	k.mac.Write(k.head)
	binary.BigEndian.PutUint64(k.tail[:], counter)
	k.mac.Write(k.tail[:])
	k.mac.Sum(k.out[:0])
	return k.out
}

// Verify reports whether c carries the digest that k computes.
func (k *CARPKey) Verify(c *CARP) bool {
	want := k.Digest(c.Counter)
	return hmac.Equal(want[:], c.Digest[:])
}
