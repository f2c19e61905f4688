// Package sadbtest makes random SAs and policies for tests.
//
// SA and Policy return what a kernel could accept and an IKE daemon could have
// installed. AnySA and AnyPolicy fill every field with anything its type and
// the limits of the record format allow, for codecs and comparisons. The same
// generator state gives the same result. Keys are random, and so are SPIs and
// addresses, as the kernel's hash tables want it.
package sadbtest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// NewRand returns a generator for a seed, so that a failure can name it.
func NewRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x5a5a)) }

// Bytes returns n random bytes.
func Bytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n:n]
}

// Addr4 returns a unicast address of 10.0.0.0/8, Addr6 one of fd00::/8.
func Addr4(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(1 + r.IntN(254))})
}

// Addr6 returns a unicast address of fd00::/8, sometimes with zeros at its end.
func Addr6(r *rand.Rand) netip.Addr {
	a := [16]byte(Bytes(r, 16))
	a[0] = 0xfd
	if r.IntN(8) == 0 {
		clear(a[4:])
	}
	return netip.AddrFrom16(a)
}

// Prefixes returns a pair of prefixes of one family.
func Prefixes(r *rand.Rand, v6 bool) (src, dst netip.Prefix) {
	if v6 {
		src, _ = Addr6(r).Prefix(32 + r.IntN(97))
		dst, _ = Addr6(r).Prefix(32 + r.IntN(97))
		return src, dst
	}
	src, _ = Addr4(r).Prefix(8 + r.IntN(25))
	dst, _ = Addr4(r).Prefix(8 + r.IntN(25))
	return src, dst
}

func coin(r *rand.Rand) bool { return r.IntN(2) == 0 }

func one(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// small returns a number of random length, so that short and long encodings
// are met alike.
func small(r *rand.Rand) uint64 { return r.Uint64() >> r.IntN(64) }
