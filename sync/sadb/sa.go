package sadb

import (
	"fmt"
	"net/netip"
)

// IP protocol numbers of SAs.
const (
	ProtoESP  uint8 = 50
	ProtoAH   uint8 = 51
	ProtoComp uint8 = 108 // IPComp
)

// Mode is how an SA encapsulates (XFRM_MODE_*).
type Mode uint8

// Modes of include/uapi/linux/xfrm.h.
const (
	ModeTransport Mode = 0
	ModeTunnel    Mode = 1
	ModeRO        Mode = 2
	ModeInTrigger Mode = 3
	ModeBEET      Mode = 4
	ModeIPTFS     Mode = 5
)

// SA flags (XFRM_STATE_*).
const (
	FlagNoECN     uint8 = 1
	FlagDecapDSCP uint8 = 2
	FlagNoPMTU    uint8 = 4
	FlagWildRecv  uint8 = 8
	FlagICMP      uint8 = 16
	FlagAFUnspec  uint8 = 32
	FlagAlign4    uint8 = 64
	FlagESN       uint8 = 128
)

// ExtraMayWrap (XFRM_SA_XFLAG_OSEQ_MAY_WRAP) lets a 32-bit outbound counter
// wrap around.
const ExtraMayWrap uint32 = 2

// SAKey is the kernel's identity of an SA: destination, SPI, protocol and mark
// (__xfrm_state_locate in net/xfrm/xfrm_state.c; the family is the
// destination's). Source, reqid and if_id are not part of it.
type SAKey struct {
	Dst   netip.Addr
	SPI   uint32 // host order
	Proto uint8
	Mark  Mark
}

// Family returns the family of the outer addresses.
func (k SAKey) Family() Family { return FamilyOf(k.Dst) }

// String names the SA as `ip xfrm` does, without its mark if it has none.
func (k SAKey) String() string {
	p := map[uint8]string{ProtoESP: "esp", ProtoAH: "ah", ProtoComp: "comp"}[k.Proto]
	if p == "" {
		p = fmt.Sprint(k.Proto)
	}
	s := fmt.Sprintf("%s dst %s spi 0x%08x", p, k.Dst, k.SPI)
	if !k.Mark.IsZero() {
		s += fmt.Sprintf(" mark 0x%x/0x%x", k.Mark.Value, k.Mark.Mask)
	}
	return s
}

// Algorithm is one transform of an SA. TruncBits is the length of the
// truncated ICV for authentication (XFRMA_ALG_AUTH_TRUNC) and AEAD. The key
// length in bits is the key's length except for IPComp, which has none.
type Algorithm struct {
	Name      string // the kernel's name, for example "rfc4106(gcm(aes))"
	Key       Secret
	TruncBits uint32 // ICV length in bits; 0 for ciphers and IPComp
}

// Encap is UDP or TCP encapsulation for NAT traversal (struct xfrm_encap_tmpl).
type Encap struct {
	Type             uint16 // 2: ESP in UDP, 7: ESP in TCP
	SrcPort, DstPort uint16
	OA               netip.Addr // original address; its family is the SA's
}

// Direction of an SA or policy.
type Direction uint8

// Directions. The kernel dumps the direction of an SA only since 6.10 and only
// where the key manager set it; elsewhere it is DirUnknown and the master
// decides by its virtual IPs.
const (
	DirUnknown Direction = iota
	DirIn
	DirOut
	DirFwd // policies only
)

// String returns in, out, fwd or "?".
func (d Direction) String() string {
	switch d {
	case DirIn:
		return "in"
	case DirOut:
		return "out"
	case DirFwd:
		return "fwd"
	}
	return "?"
}

// Counters are the parts of an SA that every packet moves.
type Counters struct {
	// OSeq is the last sequence number sent and Seq the highest accepted,
	// both with their high words for ESN.
	OSeq, Seq uint64
	// Bitmap is the replay window as the kernel keeps it: one word for the
	// legacy window, a ring of BitmapLen words otherwise. A nil bitmap in an
	// update means "unknown": the writer marks the whole window as seen.
	Bitmap []uint32
	// Bytes and Packets are counted against the lifetime limits.
	Bytes, Packets uint64
}

// SA is a security association with every attribute that decides how it
// treats packets (facts in include/uapi/linux/xfrm.h, struct xfrm_usersa_info
// and XFRMA_*). Its zero attributes are absent ones unless noted.
type SA struct {
	Key      SAKey
	Src      netip.Addr
	Selector Selector
	Reqid    uint32
	Extra    uint32 // XFRMA_SA_EXTRA_FLAGS
	Mode     Mode
	Flags    uint8 // Flag*
	// KernelDir is XFRMA_SA_DIR as the kernel reports it.
	KernelDir Direction
	// Dir is the direction as the master judges it; replicated.
	Dir Direction
	// Offloaded reports XFRMA_OFFLOAD_DEV; such an SA is not replicated.
	Offloaded bool
	Used      bool // see Age

	Auth, Crypt, AEAD, Comp *Algorithm
	Encap                   *Encap

	OutputMark   *Mark // XFRMA_SET_MARK and its mask
	PCPU         *uint32
	IfID         uint32
	TFCPad       uint32
	MappingTimer uint32 // XFRMA_MTIMER_THRESH, seconds
	Keepalive    uint32 // XFRMA_NAT_KEEPALIVE_INTERVAL, seconds
	Unknown      []Attr // ascending by type

	// Window is the replay window in packets. BitmapLen is the number of
	// 32-bit words of the bitmap; 0 means the legacy window of at most 32.
	Window    uint32
	BitmapLen uint32

	Limits Limits

	// Counters, Used, Age and UseAge move by themselves. They are replicated
	// but are not part of the SA's configuration.
	Counters
	Age    uint64 // seconds since it was added
	UseAge uint64 // seconds since first use, when Used

	// Tag is the kernel's km.seq, which marks what sasyncd installed. It is
	// local to a node and never replicated.
	Tag uint32
}

// ESN reports whether the SA uses 64-bit sequence numbers (RFC 4303 2.2.1).
func (s *SA) ESN() bool { return s.Flags&FlagESN != 0 }

// Larval reports whether the SA has no algorithm yet: an answer to ALLOCSPI or
// ACQUIRE, which is never replicated.
func (s *SA) Larval() bool {
	return s.Auth == nil && s.Crypt == nil && s.AEAD == nil && s.Comp == nil
}

// Replicable reports whether the SA is of a kind that is ever replicated: ESP,
// AH or IPComp, complete, not offloaded. The hidden IPIP SAs of IPComp tunnels
// are made by the kernel itself.
func (s *SA) Replicable() bool {
	switch s.Key.Proto {
	case ProtoESP, ProtoAH, ProtoComp:
	default:
		return false
	}
	return !s.Larval() && !s.Offloaded
}
