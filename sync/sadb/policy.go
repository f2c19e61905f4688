package sadb

import (
	"fmt"
	"net/netip"
)

// PolicyKey is the kernel's identity of a policy: direction, type, selector,
// mark, if_id and security context. Priority is not part of it.
type PolicyKey struct {
	Dir      Direction
	Sub      bool // ptype sub instead of main
	Selector Selector
	Mark     Mark
	IfID     uint32
	SecCtx   string // raw bytes of XFRMA_SEC_CTX
}

// String names the policy as `ip xfrm` does.
func (k PolicyKey) String() string {
	src, _ := k.Selector.SrcPrefix()
	dst, _ := k.Selector.DstPrefix()
	return fmt.Sprintf("policy dir %s src %s dst %s", k.Dir, src, dst)
}

// Action of a policy.
type Action uint8

// Actions (XFRM_POLICY_*).
const (
	ActionAllow Action = 0
	ActionBlock Action = 1
)

// Template is one transform that a policy demands (struct xfrm_user_tmpl).
type Template struct {
	Dst, Src                  netip.Addr // of Family; unspecified in transport mode
	SPI                       uint32
	Proto                     uint8
	Family                    Family
	Reqid                     uint32
	Mode                      Mode
	Share                     uint8
	Optional                  bool
	AuthAlgs, EncAlgs, CompAl uint32 // masks of acceptable algorithms
}

// Policy is an IPsec policy (flow).
type Policy struct {
	Key       PolicyKey
	Priority  uint32
	Action    Action
	Flags     uint8 // XFRM_POLICY_LOCALOK 1, ICMP 2, CPU_ACQUIRE 4
	Share     uint8
	Limits    Limits
	Templates []Template
	Unknown   []Attr // ascending by type

	// Use moves by itself and is not part of the configuration.
	Use Use
	// Index is the kernel's index, which marks what sasyncd installed. Local.
	Index uint32
	// Socket reports a per-socket policy (dir >= 3 in a dump), never replicated.
	Socket bool
}
