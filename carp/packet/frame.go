package packet

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// Errors of Frame.Parse and Frame.Append.
var (
	ErrFrameShort    = errors.New("frame is shorter than its headers say")
	ErrEtherType     = errors.New("frame is neither IPv4 nor IPv6")
	ErrFragment      = errors.New("packet is a fragment")
	ErrIPChecksum    = errors.New("checksum of the IPv4 header is wrong")
	ErrIPHeader      = errors.New("IP header is malformed")
	ErrFrameFamily   = errors.New("source and destination are not of one family")
	ErrFrameTooLarge = errors.New("payload does not fit an IP packet")
)

const (
	ethLen = 14
	ip4Len = 20
	ip6Len = 40

	etherTypeIP4 = 0x0800
	etherTypeIP6 = 0x86dd
	etherTypeARP = 0x0806
)

// MAC is an Ethernet address.
type MAC [6]byte

// String formats the address with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsMulticast reports whether the group bit is set; broadcast is multicast too.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// Broadcast is the Ethernet broadcast address.
func Broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// VirtualMAC is the Ethernet address of a virtual router: 00-00-5E-00-01-ID for
// IPv4 and for CARP, 00-00-5E-00-02-ID for VRRP over IPv6 (RFC 9568 7.3).
func VirtualMAC(id uint8, vrrp6 bool) MAC {
	if vrrp6 {
		return MAC{0, 0, 0x5e, 0, 2, id}
	}
	return MAC{0, 0, 0x5e, 0, 1, id}
}

// GroupMAC maps a multicast address to Ethernet (RFC 1112 6.4, RFC 2464 7).
func GroupMAC(group netip.Addr) MAC {
	if group.Is4() {
		b := group.As4()
		return MAC{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := group.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// Frame is an Ethernet frame that holds one whole IPv4 or IPv6 packet. IPv4
// options are skipped when parsing and never written; IPv6 extension headers
// are left in the payload.
type Frame struct {
	Dst, Src     MAC
	SrcIP, DstIP netip.Addr
	TOS          uint8  // IPv4 type of service, IPv6 traffic class
	TTL          uint8  // IPv4 time to live, IPv6 hop limit
	Proto        uint8  // IP protocol, next header
	ID           uint16 // IPv4 only
	DontFragment bool   // IPv4 only
	FlowLabel    uint32 // IPv6 only, 20 bits
	Payload      []byte // borrowed from the input of Parse
}

// Parse reads a frame. Padding behind the packet is dropped. An error leaves f
// in an unspecified state.
func (f *Frame) Parse(b []byte) error {
	if len(b) < ethLen {
		return ErrFrameShort
	}
	copy(f.Dst[:], b[0:6])
	copy(f.Src[:], b[6:12])
	p := b[ethLen:]
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeIP4:
		return f.parse4(p)
	case etherTypeIP6:
		return f.parse6(p)
	}
	return ErrEtherType
}

func (f *Frame) parse4(p []byte) error {
	if len(p) < ip4Len {
		return ErrFrameShort
	}
	hl, total := int(p[0]&0xf)*4, int(binary.BigEndian.Uint16(p[2:]))
	if p[0]>>4 != 4 || hl < ip4Len || total < hl {
		return ErrIPHeader
	}
	if len(p) < total {
		return ErrFrameShort
	}
	if fold(sum(0, p[:hl])) != 0 {
		return ErrIPChecksum
	}
	frag := binary.BigEndian.Uint16(p[6:])
	if frag&0x3fff != 0 {
		return ErrFragment
	}
	f.TOS, f.ID, f.TTL, f.Proto = p[1], binary.BigEndian.Uint16(p[4:]), p[8], p[9]
	f.DontFragment, f.FlowLabel = frag&0x4000 != 0, 0
	f.SrcIP = netip.AddrFrom4([4]byte(p[12:16]))
	f.DstIP = netip.AddrFrom4([4]byte(p[16:20]))
	f.Payload = p[hl:total]
	return nil
}

func (f *Frame) parse6(p []byte) error {
	if len(p) < ip6Len {
		return ErrFrameShort
	}
	word, length := binary.BigEndian.Uint32(p), int(binary.BigEndian.Uint16(p[4:]))
	if word>>28 != 6 {
		return ErrIPHeader
	}
	if len(p) < ip6Len+length {
		return ErrFrameShort
	}
	f.TOS, f.FlowLabel = uint8(word>>20), word&0xfffff
	f.Proto, f.TTL = p[6], p[7]
	f.ID, f.DontFragment = 0, false
	f.SrcIP = netip.AddrFrom16([16]byte(p[8:24]))
	f.DstIP = netip.AddrFrom16([16]byte(p[24:40]))
	f.Payload = p[ip6Len : ip6Len+length]
	return nil
}

// Append appends the frame to b. The IPv4 header checksum is computed.
func (f *Frame) Append(b []byte) ([]byte, error) {
	b, err := f.AppendHeader(b, len(f.Payload))
	if err != nil {
		return b, err
	}
	return append(b, f.Payload...), nil
}

// AppendHeader appends Ethernet and IP header for a payload of the given
// length, which the caller appends itself; f.Payload is not used.
func (f *Frame) AppendHeader(b []byte, payload int) ([]byte, error) {
	if f.SrcIP.Is4() != f.DstIP.Is4() || !f.SrcIP.IsValid() || !f.DstIP.IsValid() {
		return b, ErrFrameFamily
	}
	if payload > 0xffff-ip4Len {
		return b, ErrFrameTooLarge
	}
	b = append(b, f.Dst[:]...)
	b = append(b, f.Src[:]...)
	if f.SrcIP.Is4() {
		b = binary.BigEndian.AppendUint16(b, etherTypeIP4)
		at := len(b)
		b = append(b, 0x45, f.TOS)
		b = binary.BigEndian.AppendUint16(b, uint16(ip4Len+payload))
		b = binary.BigEndian.AppendUint16(b, f.ID)
		var frag uint16
		if f.DontFragment {
			frag = 0x4000
		}
		b = binary.BigEndian.AppendUint16(b, frag)
		b = append(b, f.TTL, f.Proto, 0, 0)
		src, dst := f.SrcIP.As4(), f.DstIP.As4()
		b = append(b, src[:]...)
		b = append(b, dst[:]...)
		putChecksum(b[at:], 10, sum(0, b[at:]))
		return b, nil
	}
	b = binary.BigEndian.AppendUint16(b, etherTypeIP6)
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(f.TOS)<<20|f.FlowLabel&0xfffff)
	b = binary.BigEndian.AppendUint16(b, uint16(payload))
	b = append(b, f.Proto, f.TTL)
	src, dst := f.SrcIP.As16(), f.DstIP.As16()
	b = append(b, src[:]...)
	return append(b, dst[:]...), nil
}
