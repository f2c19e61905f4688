package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Errors of VRRP.Parse and VRRP.Append.
var (
	ErrVRRPShort    = errors.New("vrrp message is shorter than its header says")
	ErrVRRPVersion  = errors.New("vrrp version or type is unknown")
	ErrVRRPID       = errors.New("vrrp virtual router id is 0")
	ErrVRRPCount    = errors.New("vrrp message has no addresses")
	ErrVRRPChecksum = errors.New("vrrp checksum is wrong")
	ErrVRRPInterval = errors.New("vrrp advertisement interval is out of range")
	ErrVRRPFamily   = errors.New("vrrp addresses are not of the family of the packet")
	ErrVRRPLocal    = errors.New("first ipv6 address of the vrrp message is not link-local")
)

const (
	vrrpLen      = 8
	vrrp2AuthLen = 8

	// MaxVRRP3Interval is the longest interval VRRPv3 can express.
	MaxVRRP3Interval = 4095 * 10 * time.Millisecond
)

// Checksum names the two ways to compute the checksum of VRRPv3 over IPv4. RFC
// 9568 5.2.8 says the message alone; keepalived and FRR include a pseudo-header
// as for IPv6, and refuse the other form.
type Checksum uint8

// The checksum dialects.
const (
	ChecksumPseudo Checksum = iota
	ChecksumMessage
)

// String names the dialect as the configuration does.
func (c Checksum) String() string {
	if c == ChecksumMessage {
		return "message"
	}
	return "pseudo"
}

// Authentication types of VRRPv2 (RFC 2338 5.3.6).
const (
	VRRP2AuthNone   = 0
	VRRP2AuthSimple = 1
	VRRP2AuthAH     = 2
)

// VRRP is an advertisement of VRRPv2 or VRRPv3.
type VRRP struct {
	Version  uint8         // 2 or 3
	ID       uint8         // 1..255
	Priority uint8         // 255 address owner, 0 the sender resigns
	Interval time.Duration // version 3: 10 ms to 40.95 s in steps of 10 ms; version 2: 1 to 255 s
	AuthType uint8         // version 2 only
	Auth     [8]byte       // version 2 only; a password in clear, if any
	Addrs    []netip.Addr  // reused by Parse
	Checksum Checksum      // version 3 over IPv4 only: how it is computed
	Trailer  []byte        // version 3 only: what follows the message; borrowed by Parse
}

// Parse reads the payload of a packet from src to dst. Of VRRPv3 over IPv4 both
// checksum dialects are accepted and the one found is stored. The address list
// is not judged except for the rules of RFC 9568 errata 8299 to 8301. An error
// leaves v in an unspecified state.
func (v *VRRP) Parse(b []byte, src, dst netip.Addr) error {
	if len(b) < vrrpLen {
		return ErrVRRPShort
	}
	switch b[0] {
	case 0x21, 0x31:
		v.Version = b[0] >> 4
	default:
		return ErrVRRPVersion
	}
	v.ID, v.Priority = b[1], b[2]
	if v.ID == 0 {
		return ErrVRRPID
	}
	count, size := int(b[3]), 4
	if count == 0 {
		return ErrVRRPCount
	}
	v.AuthType, v.Auth, v.Trailer, v.Checksum = 0, [8]byte{}, nil, ChecksumPseudo
	if v.Version == 2 {
		if !src.Is4() {
			return ErrVRRPFamily
		}
		end := vrrpLen + 4*count
		if len(b) < end+vrrp2AuthLen {
			return ErrVRRPShort
		}
		if fold(sum(0, b[:end+vrrp2AuthLen])) != 0 {
			return ErrVRRPChecksum
		}
		v.AuthType = b[4]
		v.Interval = time.Duration(b[5]) * time.Second
		copy(v.Auth[:], b[end:])
	} else {
		if src.Is6() {
			size = 16
		}
		end := vrrpLen + size*count
		if len(b) < end {
			return ErrVRRPShort
		}
		if err := v.checkSum3(b, end, src, dst); err != nil {
			return err
		}
		v.Interval = time.Duration(binary.BigEndian.Uint16(b[4:])&0xfff) * 10 * time.Millisecond
		if len(b) > end {
			v.Trailer = b[end:]
		}
	}
	if v.Interval == 0 {
		return ErrVRRPInterval
	}
	v.Addrs = v.Addrs[:0]
	for i := range count {
		a := b[vrrpLen+i*size:]
		if size == 4 {
			v.Addrs = append(v.Addrs, netip.AddrFrom4([4]byte(a[:4])))
		} else {
			v.Addrs = append(v.Addrs, netip.AddrFrom16([16]byte(a[:16])))
		}
	}
	if size == 16 && !v.Addrs[0].IsLinkLocalUnicast() {
		return ErrVRRPLocal
	}
	return nil
}

// checkSum3 verifies a VRRPv3 checksum. Over IPv6 it covers everything that
// follows the IP header, a trailer included; over IPv4 the message alone.
func (v *VRRP) checkSum3(b []byte, end int, src, dst netip.Addr) error {
	if src.Is6() {
		if fold(sum(pseudo(src, dst, Protocol, len(b)), b)) != 0 {
			return ErrVRRPChecksum
		}
		return nil
	}
	message := sum(0, b[:end])
	if fold(message+pseudo(src, dst, Protocol, end)) == 0 {
		return nil
	}
	if fold(message) == 0 {
		v.Checksum = ChecksumMessage
		return nil
	}
	return ErrVRRPChecksum
}

// Append appends the message, with its checksum for a packet from src to dst,
// to b. A trailer is appended as it is; over IPv6 the checksum covers it.
func (v *VRRP) Append(b []byte, src, dst netip.Addr) ([]byte, error) {
	at := len(b)
	switch {
	case v.ID == 0:
		return b, ErrVRRPID
	case len(v.Addrs) == 0 || len(v.Addrs) > 255:
		return b, ErrVRRPCount
	case v.Version == 2 && (v.Interval < time.Second || v.Interval > 255*time.Second):
		return b, ErrVRRPInterval
	case v.Version == 3 && (v.Interval < 10*time.Millisecond || v.Interval > MaxVRRP3Interval):
		return b, ErrVRRPInterval
	case v.Version != 2 && v.Version != 3:
		return b, ErrVRRPVersion
	case v.Version == 2 && !src.Is4():
		return b, ErrVRRPFamily
	}
	b = append(b, v.Version<<4|1, v.ID, v.Priority, uint8(len(v.Addrs)))
	if v.Version == 2 {
		b = append(b, v.AuthType, uint8(v.Interval/time.Second))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(v.Interval/(10*time.Millisecond)))
	}
	b = append(b, 0, 0)
	for _, a := range v.Addrs {
		if a.Is4() != src.Is4() {
			return b[:at], ErrVRRPFamily
		}
		if a.Is4() {
			x := a.As4()
			b = append(b, x[:]...)
		} else {
			x := a.As16()
			b = append(b, x[:]...)
		}
	}
	var acc uint32
	if v.Version == 2 {
		b = append(b, v.Auth[:]...)
		acc = sum(0, b[at:])
	} else {
		acc = sum(0, b[at:])
		b = append(b, v.Trailer...)
		switch {
		case src.Is6():
			acc = sum(pseudo(src, dst, Protocol, len(b)-at), b[at:])
		case v.Checksum == ChecksumPseudo:
			acc += pseudo(src, dst, Protocol, len(b)-at-len(v.Trailer))
		}
	}
	putChecksum(b[at:], 6, acc)
	return b, nil
}
