package xfrm

import (
	"net/netip"
	"testing"

	"sasyncd/sync/sadb"
)

// TestKnownAttributesDoNotComeAsUnknown: a record of a peer cannot put hardware
// offload, or any other attribute of this package's, past what checks it.
func TestKnownAttributesDoNotComeAsUnknown(t *testing.T) {
	e := &encoder{}
	sa := &sadb.SA{Key: sadb.SAKey{SPI: 0x1000, Proto: 50, Dst: netip.MustParseAddr("192.0.2.1")},
		Src: netip.MustParseAddr("192.0.2.2"), Window: 32}
	p := &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut}}
	encode := func(typ uint16) (saErr, policyErr error) {
		sa.Unknown = []sadb.Attr{{Type: typ, Data: make([]byte, 8)}}
		p.Unknown = sa.Unknown
		b, saErr := e.appendSA(nil, sa, 0, 0)
		if saErr != nil && len(b) != 0 {
			t.Errorf("attribute %#x: %d bytes are left of what is refused", typ, len(b))
		}
		_, policyErr = e.appendPolicy(nil, p, 0)
		return saErr, policyErr
	}
	const nested, byteOrder = 0x8000, 0x4000 // NLA_F_NESTED, NLA_F_NET_BYTEORDER
	for _, typ := range []uint16{attrOffload, attrOffload | nested, attrOffload | byteOrder, attrAuth, attrCrypt,
		attrAEAD, attrAuthTrunc, attrComp,
		attrEncap, attrLifetime, attrReplay, attrReplayESN, attrLastUsed, attrMark, attrTFCPad, attrExtraFlags, attrPad,
		attrSetMark,
		attrSetMarkMask, attrIfID, attrMappingTimer, attrDirection, attrKeepalive, attrPCPU} {
		if err, _ := encode(typ); err == nil {
			t.Errorf("attribute %#x of an SA is written", typ)
		}
	}
	for _, typ := range []uint16{attrOffload, attrOffload | nested, attrTemplates, attrTemplates | byteOrder,
		attrPolicy, attrSecCtx, attrMark, attrIfID,
		attrPolicyType, attrPad} {
		if _, err := encode(typ); err == nil {
			t.Errorf("attribute %#x of a policy is written", typ)
		}
	}
	const coaddr, later = 14, 36 // XFRMA_COADDR, and one that no kernel has yet
	for _, typ := range []uint16{coaddr, later, 0x3fff} {
		if saErr, policyErr := encode(typ); saErr != nil || policyErr != nil {
			t.Errorf("attribute %d is refused: SA %v, policy %v", typ, saErr, policyErr)
		}
	}
	if saErr, _ := encode(attrSecCtx); saErr != nil { // carried as it is
		t.Errorf("the security context of an SA is refused: %v", saErr)
	}
}
