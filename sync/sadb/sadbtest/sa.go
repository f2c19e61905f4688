package sadbtest

import (
	"math/rand/v2"
	"net/netip"

	"sasyncd/sync/sadb"
)

// Limits that stand for none.
func unlimited() sadb.Limits {
	return sadb.Limits{
		SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit,
		SoftPackets: sadb.NoLimit, HardPackets: sadb.NoLimit,
	}
}

// SA returns a plausible SA: tunnel or transport mode, IPv4 or IPv6, ESP with
// AES-GCM, ChaCha20-Poly1305 or AES-CBC with HMAC, AH, or IPComp; with and
// without ESN, NAT-T, marks and limits. Its direction is in Dir.
func SA(r *rand.Rand) *sadb.SA {
	s := &sadb.SA{Limits: unlimited(), Mode: sadb.ModeTunnel, Reqid: 1 + r.Uint32N(1<<14)}
	s.Src, s.Key.Dst = Addr4(r), Addr4(r)
	if coin(r) {
		s.Src, s.Key.Dst = Addr6(r), Addr6(r)
	}
	s.Selector.Family = sadb.FamilyOf(s.Src)
	if one(r, 4) {
		s.Mode = sadb.ModeTransport
	} else if coin(r) {
		s.Flags |= sadb.FlagAFUnspec
		s.Selector.Family = sadb.FamilyAny
	}
	s.Key.SPI = 0x100 + r.Uint32N(1<<32-0x100)
	s.Key.Proto = sadb.ProtoESP
	switch r.IntN(10) {
	case 0:
		s.Key.Proto = sadb.ProtoAH
		s.Auth = hmac(r)
	case 1:
		s.Key.Proto = sadb.ProtoComp
		s.Key.SPI &= 0xffff
		s.Key.SPI |= 0x100
		s.Comp = &sadb.Algorithm{Name: "deflate"}
	case 2, 3:
		s.Crypt = &sadb.Algorithm{Name: "cbc(aes)", Key: key(r, pick(r, 16, 24, 32))}
		s.Auth = hmac(r)
	case 4:
		s.AEAD = &sadb.Algorithm{Name: "rfc7539esp(chacha20,poly1305)", Key: key(r, 36), TruncBits: 128}
	default:
		s.AEAD = &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: key(r, pick(r, 20, 28, 36)),
			TruncBits: pick[uint32](r, 64, 96, 128)}
	}
	s.Dir = pick(r, sadb.DirIn, sadb.DirOut)
	replay(r, s)
	if s.Key.Proto == sadb.ProtoESP && one(r, 4) {
		s.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: uint16(1024 + r.IntN(60000)), OA: s.Src}
	}
	if one(r, 4) {
		s.Key.Mark = sadb.Mark{Value: r.Uint32N(256), Mask: 0xff}
	}
	if one(r, 4) {
		s.OutputMark = &sadb.Mark{Value: r.Uint32N(256), Mask: 0xff}
	}
	if one(r, 4) {
		s.IfID = 1 + r.Uint32N(1000)
	}
	if one(r, 4) {
		s.Flags |= sadb.FlagDecapDSCP
	}
	if coin(r) {
		s.Limits.SoftAdd, s.Limits.HardAdd = 3000+r.Uint64N(300), 3600
	}
	if one(r, 4) {
		s.Limits.SoftBytes, s.Limits.HardBytes = 1<<40, 1<<41
	}
	s.Age = r.Uint64N(2900)
	if s.Used = s.Packets > 0; s.Used {
		s.UseAge = r.Uint64N(s.Age + 1)
	}
	return s
}

// replay gives s a window, flags and counters that fit its direction.
func replay(r *rand.Rand, s *sadb.SA) {
	if s.Key.Proto == sadb.ProtoComp {
		return
	}
	seq := small(r) >> 32
	switch r.IntN(3) {
	case 0:
		s.Window = 32
	case 1:
		s.Window, s.BitmapLen = 128, 4
	default:
		s.Flags |= sadb.FlagESN
		s.Window, s.BitmapLen = 256, 8
		seq = small(r) >> 16
	}
	s.Bitmap = make([]uint32, max(s.BitmapLen, 1))
	s.Packets = seq
	s.Bytes = seq * (60 + r.Uint64N(1400))
	if s.Dir == sadb.DirOut {
		s.OSeq = seq
		return
	}
	if s.Seq = seq; seq > 0 {
		for i := range s.Bitmap {
			s.Bitmap[i] = r.Uint32()
		}
	}
}

func key(r *rand.Rand, n int) sadb.Secret { return sadb.NewSecret(Bytes(r, n)) }

func hmac(r *rand.Rand) *sadb.Algorithm {
	if coin(r) {
		return &sadb.Algorithm{Name: "hmac(sha1)", Key: key(r, 20), TruncBits: 96}
	}
	return &sadb.Algorithm{Name: "hmac(sha256)", Key: key(r, 32), TruncBits: 128}
}

// AnySA returns an SA with anything in any replicated field; local fields stay
// zero. Most would be refused by a kernel.
func AnySA(r *rand.Rand) *sadb.SA {
	s := &sadb.SA{
		Key:      sadb.SAKey{SPI: r.Uint32(), Proto: uint8(r.Uint32())},
		Mode:     sadb.Mode(r.Uint32N(7)),
		Selector: anySelector(r),
		Limits:   anyLimits(r),
		Unknown:  anyAttrs(r),
		Dir:      sadb.Direction(r.IntN(4)),
	}
	s.Src, s.Key.Dst = Addr4(r), Addr4(r)
	if coin(r) {
		s.Src, s.Key.Dst = Addr6(r), Addr6(r)
	}
	if coin(r) {
		s.Key.Mark = sadb.Mark{Value: r.Uint32(), Mask: r.Uint32()}
	}
	for _, a := range []**sadb.Algorithm{&s.Auth, &s.Crypt, &s.AEAD, &s.Comp} {
		if coin(r) {
			*a = &sadb.Algorithm{Name: pick(r, "x", "authenc(hmac(sha512),cbc(aes))"), Key: key(r, r.IntN(80)),
				TruncBits: uint32(small(r))}
		}
	}
	if coin(r) {
		s.Encap = &sadb.Encap{Type: uint16(r.Uint32()), SrcPort: uint16(r.Uint32()), DstPort: uint16(r.Uint32()),
			OA: pick(r, netip.Addr{}, Addr4(r), Addr6(r))}
	}
	if coin(r) {
		s.OutputMark = &sadb.Mark{Value: r.Uint32N(2), Mask: r.Uint32N(2)}
	}
	if coin(r) {
		s.PCPU = new(uint32)
		*s.PCPU = r.Uint32N(3)
	}
	if coin(r) {
		s.Flags, s.Extra, s.KernelDir = uint8(r.Uint32()), r.Uint32(), sadb.Direction(r.IntN(4))
	}
	for _, v := range []*uint32{&s.Reqid, &s.IfID, &s.TFCPad, &s.MappingTimer, &s.Keepalive, &s.Window} {
		if coin(r) {
			*v = uint32(small(r))
		}
	}
	if coin(r) {
		s.BitmapLen = r.Uint32N(129)
	}
	if coin(r) {
		s.Bitmap = make([]uint32, r.IntN(129))
		for i := range s.Bitmap {
			s.Bitmap[i] = r.Uint32()
		}
	}
	for _, v := range []*uint64{&s.OSeq, &s.Seq, &s.Bytes, &s.Packets, &s.Age} {
		if coin(r) {
			*v = small(r)
		}
	}
	if s.Used = coin(r); s.Used {
		s.UseAge = small(r)
	}
	return s
}

func anySelector(r *rand.Rand) (s sadb.Selector) {
	if one(r, 8) {
		return s
	}
	s.Family = pick(r, sadb.FamilyAny, sadb.FamilyIPv4, sadb.FamilyIPv6)
	s.Src, s.Dst = sadb.Bytes16(Bytes(r, 16)), sadb.Bytes16(Bytes(r, 16))
	clear(s.Src[r.IntN(17):])
	clear(s.Dst[r.IntN(17):])
	s.SrcLen, s.DstLen, s.Proto = uint8(r.Uint32N(129)), uint8(r.Uint32N(129)), uint8(r.Uint32())
	s.SrcPort, s.SrcPortMask = uint16(r.Uint32()), uint16(r.Uint32())
	s.DstPort, s.DstPortMask = uint16(r.Uint32()), uint16(r.Uint32())
	s.Interface, s.User = pick(r, "", "eth0", "ipsec0123456789"), uint32(small(r))
	return s
}

func anyLimits(r *rand.Rand) sadb.Limits {
	l := unlimited()
	if one(r, 4) {
		return l
	}
	for _, v := range []*uint64{&l.SoftBytes, &l.HardBytes, &l.SoftPackets, &l.HardPackets,
		&l.SoftAdd, &l.HardAdd, &l.SoftUse, &l.HardUse} {
		if coin(r) {
			*v = small(r)
		}
	}
	return l
}

func anyAttrs(r *rand.Rand) (as []sadb.Attr) {
	t := uint16(36)
	for range r.IntN(3) {
		t += uint16(r.Uint32N(5))
		as = append(as, sadb.Attr{Type: t, Data: Bytes(r, 1+r.IntN(40))})
	}
	return as
}
