package packet

import (
	"encoding/binary"
	"net/netip"
)

// sum adds b to a ones' complement sum (RFC 1071). An odd last byte counts as
// the high half of a word. The accumulator has room for 128 KiB of input.
func sum(acc uint32, b []byte) uint32 {
	for len(b) >= 2 {
		acc += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

// fold turns a sum into the checksum that goes on the wire.
func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// pseudo sums the pseudo-header: addresses, length and protocol. IPv4 and IPv6
// lay the fields out differently, but the sum is the same.
func pseudo(src, dst netip.Addr, proto uint8, length int) uint32 {
	var acc uint32
	for _, a := range [2]netip.Addr{src, dst} {
		if a.Is4() {
			b := a.As4()
			acc = sum(acc, b[:])
		} else {
			b := a.As16()
			acc = sum(acc, b[:])
		}
	}
	return acc + uint32(proto) + uint32(length)
}

func putChecksum(b []byte, off int, acc uint32) {
	binary.BigEndian.PutUint16(b[off:], fold(acc))
}
