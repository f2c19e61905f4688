package capture

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"time"

	"sasyncd/tests/harness/lab"
)

// Packet is a captured frame, taken apart as far as we need it. Fields that
// the frame does not have are zero.
type Packet struct {
	At     time.Time
	Port   *lab.Port // where it came in: the cable of the node that sent it
	SrcMAC net.HardwareAddr
	Type   uint16 // Ethernet type
	Src    netip.Addr
	Dst    netip.Addr
	Proto  uint8  // of the innermost IP header's payload, extension headers skipped
	IsESP  bool   // bare, or in UDP port 4500
	SPI    uint32 // of ESP
	Seq    uint32 // of ESP, as on the wire
	Hops   uint8  // that the packet may still take: TTL, hop limit
	Sum    uint32 // of ESP: checksum of as much of it as was captured
	Length int    // of the frame; Frame may hold less
	Frame  []byte // valid only during a call back
}

const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd

	protoUDP = 17
	protoESP = 50

	portNATT = 4500 // RFC 3948
)

// parse never fails: what is cut off or malformed stays zero.
func parse(frame []byte, p *Packet) {
	if len(frame) < 14 {
		return
	}
	p.SrcMAC = frame[6:12]
	p.Type = binary.BigEndian.Uint16(frame[12:])
	var payload []byte
	switch p.Type {
	case typeIPv4:
		payload = parseIPv4(frame[14:], p)
	case typeIPv6:
		payload = parseIPv6(frame[14:], p)
	}
	switch {
	case p.Proto == protoESP:
		parseESP(payload, p)
	case p.Proto == protoUDP && len(payload) > 8:
		src, dst := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
		if src == portNATT || dst == portNATT {
			parseESP(payload[8:], p) // an IKE message starts with a zero SPI, a keepalive is one byte
		}
	}
}

func parseESP(b []byte, p *Packet) {
	if len(b) < 8 {
		return
	}
	spi := binary.BigEndian.Uint32(b)
	if spi == 0 {
		return
	}
	p.IsESP, p.SPI, p.Seq = true, spi, binary.BigEndian.Uint32(b[4:])
	p.Sum = crc32.ChecksumIEEE(b)
}

// parseIPv4 returns the payload, nil for all fragments but the first.
func parseIPv4(b []byte, p *Packet) []byte {
	if len(b) < 20 || b[0]>>4 != 4 {
		return nil
	}
	p.Src, p.Dst = addr4(b[12:]), addr4(b[16:])
	p.Hops, p.Proto = b[8], b[9]
	n := int(b[0]&15) * 4
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 || n < 20 || n > len(b) {
		return nil
	}
	return b[n:]
}

// parseIPv6 returns the payload behind extension headers, nil for all fragments but the first.
func parseIPv6(b []byte, p *Packet) []byte {
	if len(b) < 40 || b[0]>>4 != 6 {
		return nil
	}
	p.Src, p.Dst = addr6(b[8:]), addr6(b[24:])
	p.Hops = b[7]
	next, b := b[6], b[40:]
	for {
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination options: RFC 8200, section 4
			if len(b) < 8 {
				return nil
			}
			n := (int(b[1]) + 1) * 8
			if n > len(b) {
				return nil
			}
			next, b = b[0], b[n:]
		case 44: // fragment
			if len(b) < 8 {
				return nil
			}
			offset := binary.BigEndian.Uint16(b[2:]) >> 3
			next, b = b[0], b[8:]
			if offset != 0 {
				p.Proto = next
				return nil
			}
		default:
			p.Proto = next
			return b
		}
	}
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }
func addr6(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])) }
