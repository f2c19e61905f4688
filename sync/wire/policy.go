package wire

import (
	"encoding/binary"
	"fmt"

	"sasyncd/sync/sadb"
)

// Fields of a policy record. 1 to 4 are its identity; below stateTypes is its
// configuration.
const (
	polID       tlv = 1
	polMark     tlv = 2
	polSelector tlv = 3
	polSecCtx   tlv = 4
	polPriority tlv = 5
	polAction   tlv = 6
	polFlags    tlv = 7
	polShare    tlv = 8
	polLimits   tlv = 9
	polTemplate tlv = 10
	polUnknown  tlv = 24
	polUse      tlv = 64
	maxTemplate     = 6 // XFRM_MAX_DEPTH
)

// AppendPolicy appends the record of a policy: everything but what is local to
// a machine (Index, Socket). It allocates only to grow b. What it appends can
// be parsed when it is at most MaxRecord bytes long; messages check that.
func AppendPolicy(b []byte, p *sadb.Policy) []byte {
	b = appendPolicyConfig(b, p)
	u := &p.Use
	if u.Bytes|u.Packets|u.Age != 0 || u.Used {
		var at int
		b, at = openTLV(b, polUse)
		b = binary.AppendUvarint(b, u.Bytes)
		b = binary.AppendUvarint(b, u.Packets)
		b = appendAges(b, u.Age, u.Used, u.UseAge)
		b = closeTLV(b, at)
	}
	return b
}

// AppendPolicyKey appends the identity of a policy, which is also how its
// record begins.
func AppendPolicyKey(b []byte, k *sadb.PolicyKey) []byte {
	b = append(b, byte(polID), 0, 6, byte(k.Dir))
	b = appendBool(b, k.Sub)
	b = binary.BigEndian.AppendUint32(b, k.IfID)
	if !k.Mark.IsZero() {
		b = appendMark(b, polMark, k.Mark)
	}
	b = appendSelector(b, polSelector, &k.Selector)
	if k.SecCtx != "" {
		var at int
		b, at = openTLV(b, polSecCtx)
		b = closeTLV(append(b, k.SecCtx...), at)
	}
	return b
}

func appendPolicyConfig(b []byte, p *sadb.Policy) []byte {
	b = AppendPolicyKey(b, &p.Key)
	b = appendU32(b, polPriority, p.Priority)
	b = appendU8(b, polAction, uint8(p.Action))
	b = appendU8(b, polFlags, p.Flags)
	b = appendU8(b, polShare, p.Share)
	b = appendLimits(b, polLimits, &p.Limits)
	for i := range p.Templates {
		t := &p.Templates[i]
		var at int
		b, at = openTLV(b, polTemplate)
		b = binary.BigEndian.AppendUint16(b, uint16(t.Family))
		b = append(b, t.Proto, byte(t.Mode), t.Share)
		b = appendBool(b, t.Optional)
		for _, v := range [...]uint32{t.SPI, t.Reqid, t.AuthAlgs, t.EncAlgs, t.CompAl} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		b = appendAddr(b, t.Dst)
		b = appendAddr(b, t.Src)
		b = closeTLV(b, at)
	}
	return appendUnknown(b, polUnknown, p.Unknown)
}

func (e *field) policyKey(k *sadb.PolicyKey) bool {
	switch e.t {
	case polID:
		if k.Dir = sadb.Direction(e.u8("direction")); k.Dir < sadb.DirIn || k.Dir > sadb.DirFwd {
			e.fail("direction %d", k.Dir)
		}
		k.Sub, k.IfID = e.bool("type"), e.u32("interface id")
	case polMark:
		k.Mark = nonzero(e, e.mark())
	case polSelector:
		k.Selector = e.selector()
	case polSecCtx:
		k.SecCtx = nonzero(e, string(e.rest()))
	default:
		return false
	}
	return true
}

// ParsePolicyKey reads what AppendPolicyKey wrote.
func ParsePolicyKey(b []byte) (k sadb.PolicyKey, err error) {
	w, e := walk{reader: reader{b: b}}, field{}
	for w.next(&e, never) && w.done(&e, e.policyKey(&k)) {
	}
	if err = w.err; err == nil && k.Dir == sadb.DirUnknown {
		err = errNoIdentity
	}
	if err != nil {
		return sadb.PolicyKey{}, fmt.Errorf("parse identity of a policy: %w", err)
	}
	return k, nil
}

// ParsePolicy reads the record of a policy, under the rules of ParseSA.
func ParsePolicy(b []byte) (*sadb.Policy, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("parse policy: %d bytes exceed %d", len(b), MaxRecord)
	}
	p := &sadb.Policy{Limits: unlimited()}
	repeats := func(t tlv) bool { return t == polTemplate || t == polUnknown }
	w, e := walk{reader: reader{b: b}}, field{}
	for w.next(&e, repeats) && w.done(&e, e.policyKey(&p.Key) || e.policy(p)) {
	}
	err := w.err
	if err == nil && p.Key.Dir == sadb.DirUnknown {
		err = errNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	return p, nil
}

func (e *field) policy(p *sadb.Policy) bool {
	switch e.t {
	case polPriority:
		p.Priority = nonzero(e, e.u32("priority"))
	case polAction:
		p.Action = sadb.Action(nonzero(e, e.u8("action")))
	case polFlags:
		p.Flags = nonzero(e, e.u8("flags"))
	case polShare:
		p.Share = nonzero(e, e.u8("share"))
	case polLimits:
		p.Limits = e.limits()
	case polTemplate:
		if len(p.Templates) == maxTemplate {
			e.fail("more than %d templates", maxTemplate)
		}
		p.Templates = append(p.Templates, e.template())
	case polUnknown:
		p.Unknown = e.unknown(p.Unknown)
	case polUse:
		u := &p.Use
		u.Bytes, u.Packets = e.uvarint("bytes"), e.uvarint("packets")
		if u.Age, u.Used, u.UseAge = e.ages(); u.Bytes|u.Packets|u.Age == 0 && !u.Used {
			e.fail("is present although empty")
		}
	default:
		return false
	}
	return true
}

func (e *field) template() (t sadb.Template) {
	t.Family = e.family()
	t.Proto, t.Mode, t.Share = e.u8("protocol"), sadb.Mode(e.u8("mode")), e.u8("share")
	t.Optional = e.bool("level")
	t.SPI, t.Reqid = e.u32("spi"), e.u32("reqid")
	t.AuthAlgs, t.EncAlgs, t.CompAl = e.u32("auth mask"), e.u32("cipher mask"), e.u32("compression mask")
	t.Dst, t.Src = e.addr("destination"), e.addr("source")
	return t
}
