package xfrm

import (
	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// policy decodes the payload of NEWPOLICY or UPDPOLICY. now is the wall clock
// in Unix seconds.
func (d *decoder) policy(b []byte, now int64) (*sadb.Policy, error) {
	if len(b) < sizePolicy {
		return nil, errShort("policy", len(b), sizePolicy)
	}
	p := d.policyHead(b, now)
	d.policyAttrs(p, b[sizePolicy:])
	return p, nil
}

// deletedPolicy decodes the payload of DELPOLICY: the identity, then the whole
// policy as an attribute.
func (d *decoder) deletedPolicy(b []byte, now int64) (*sadb.Policy, error) {
	if len(b) < sizePolicyID {
		return nil, errShort("deleted policy", len(b), sizePolicyID)
	}
	p := &sadb.Policy{Index: native.Uint32(b[56:])}
	d.selector(&p.Key.Selector, b)
	p.Key.Dir, p.Socket = direction(b[60])
	for rest := netlink.Attrs(b[sizePolicyID:]); ; {
		typ, data, ok := rest.Next()
		if !ok {
			break
		}
		if typ == attrPolicy && len(data) >= sizePolicy {
			p = d.policyHead(data, now)
			break
		}
	}
	d.policyAttrs(p, b[sizePolicyID:])
	return p, nil
}

// expiredPolicy decodes the payload of POLEXPIRE.
func (d *decoder) expiredPolicy(b []byte, now int64) (p *sadb.Policy, hard bool, err error) {
	if len(b) < sizePolExpire {
		return nil, false, errShort("expired policy", len(b), sizePolExpire)
	}
	p = d.policyHead(b, now)
	d.policyAttrs(p, b[sizePolExpire:])
	return p, b[sizePolicy] != 0, nil
}

// direction maps XFRM_POLICY_IN, OUT, FWD and their per-socket twins.
func direction(dir byte) (d sadb.Direction, socket bool) {
	socket = dir >= polSocket
	switch dir % polSocket {
	case 0:
		d = sadb.DirIn
	case 1:
		d = sadb.DirOut
	case 2:
		d = sadb.DirFwd
	}
	return d, socket
}

// policyHead decodes struct xfrm_userpolicy_info.
func (d *decoder) policyHead(b []byte, now int64) *sadb.Policy {
	p := &sadb.Policy{
		Priority: native.Uint32(b[polPriority:]),
		Index:    native.Uint32(b[polIndex:]),
		Action:   sadb.Action(b[polAction]),
		Flags:    b[polFlags],
		Share:    b[polShare],
		Use:      use(b[polCurrent:], now),
	}
	limits(&p.Limits, b[polLimits:])
	d.selector(&p.Key.Selector, b)
	p.Key.Dir, p.Socket = direction(b[polDir])
	return p
}

func (d *decoder) policyAttrs(p *sadb.Policy, rest netlink.Attrs) {
	var told attrSet
	for {
		typ, data, ok := rest.Next()
		if !ok {
			break
		}
		good := true
		switch typ {
		case attrPad, attrPolicy:
		case attrTemplates:
			if good = len(data)%sizeTemplate == 0; good && len(data) > 0 {
				p.Templates = make([]sadb.Template, len(data)/sizeTemplate)
				for i := range p.Templates {
					template(&p.Templates[i], data[i*sizeTemplate:])
				}
			}
		case attrSecCtx:
			p.Key.SecCtx = string(data)
		case attrMark:
			p.Key.Mark, good = mark(data)
		case attrIfID:
			p.Key.IfID, good = netlink.Uint32(data)
		case attrPolicyType:
			if good = len(data) >= 1 && data[0] <= polTypeSub; good {
				p.Key.Sub = data[0] == polTypeSub
			}
		default:
			good = false
		}
		if good {
			told.add(typ)
		} else {
			p.Unknown = unknown(p.Unknown, typ, data)
		}
	}
	p.Unknown = told.drop(p.Unknown)
}

// template decodes struct xfrm_user_tmpl. Three empty algorithm masks are how a
// policy is dumped that came through PF_KEY and accepts every algorithm. They
// become full ones: written back as they are they would refuse all inbound
// packets, and a copy would never look like its original.
func template(t *sadb.Template, b []byte) {
	f := sadb.Family(native.Uint16(b[24:]))
	*t = sadb.Template{
		Dst: addr16(b[:16], f), Src: addr16(b[28:44], f),
		SPI: network.Uint32(b[16:]), Proto: b[20], Family: f,
		Reqid: native.Uint32(b[44:]), Mode: sadb.Mode(b[48]), Share: b[49],
		Optional: b[50] != 0,
		AuthAlgs: native.Uint32(b[52:]), EncAlgs: native.Uint32(b[56:]), CompAl: native.Uint32(b[60:]),
	}
	if t.AuthAlgs|t.EncAlgs|t.CompAl == 0 {
		t.AuthAlgs, t.EncAlgs, t.CompAl = ^uint32(0), ^uint32(0), ^uint32(0)
	}
}
