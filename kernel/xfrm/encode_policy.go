package xfrm

import (
	"fmt"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// appendPolicy appends the payload of NEWPOLICY or UPDPOLICY with the given
// index (0: the kernel chooses).
func (e *encoder) appendPolicy(b []byte, p *sadb.Policy, index uint32) ([]byte, error) {
	dir, err := policyDir(p.Key.Dir)
	if err != nil {
		return b, err
	}
	if p.Socket {
		return b, fmt.Errorf("encode %s: belongs to a socket", p.Key)
	}
	start := len(b)
	b, h := netlink.Zeros(b, sizePolicy)
	if err := e.selector(h, &p.Key.Selector, false); err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", p.Key, err)
	}
	putLimits(h[polLimits:], &p.Limits)
	native.PutUint32(h[polPriority:], p.Priority)
	native.PutUint32(h[polIndex:], index)
	h[polDir], h[polAction], h[polFlags], h[polShare] = dir, byte(p.Action), p.Flags, p.Share
	if len(p.Templates) > 0 {
		var at int
		b, at = netlink.BeginAttr(b, attrTemplates)
		for i := range p.Templates {
			b = appendTemplate(b, &p.Templates[i])
		}
		b = netlink.EndAttr(b, at)
	}
	b = appendPolicyKey(b, &p.Key)
	if b, err = appendUnknown(b, p.Unknown, ownOfPolicy); err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", p.Key, err)
	}
	return b, nil
}

// appendPolicyID appends the payload of DELPOLICY: by selector, never by index,
// which differs from node to node.
func (e *encoder) appendPolicyID(b []byte, key *sadb.PolicyKey) ([]byte, error) {
	dir, err := policyDir(key.Dir)
	if err != nil {
		return b, err
	}
	start := len(b)
	b, h := netlink.Zeros(b, sizePolicyID)
	if err := e.selector(h, &key.Selector, true); err != nil {
		return b[:start], fmt.Errorf("encode %s: %w", key, err)
	}
	h[60] = dir
	return appendPolicyKey(b, key), nil
}

// appendPolicyKey appends the attributes that belong to a policy's identity.
func appendPolicyKey(b []byte, key *sadb.PolicyKey) []byte {
	if key.SecCtx != "" {
		b = netlink.AppendAttr(b, attrSecCtx, []byte(key.SecCtx))
	}
	if key.Sub {
		b = netlink.AppendAttr(b, attrPolicyType, []byte{polTypeSub, sizePolicyType - 1: 0})
	}
	b = appendMark(b, key.Mark)
	if key.IfID != 0 {
		b = netlink.AppendAttr32(b, attrIfID, key.IfID)
	}
	return b
}

func policyDir(d sadb.Direction) (byte, error) {
	if d < sadb.DirIn || d > sadb.DirFwd {
		return 0, fmt.Errorf("encode policy: direction %s, want in, out or fwd", d)
	}
	return byte(d - sadb.DirIn), nil
}

// appendTemplate appends struct xfrm_user_tmpl. Three empty algorithm masks
// become full ones, as when they are read: see template.
func appendTemplate(b []byte, t *sadb.Template) []byte {
	b, h := netlink.Zeros(b, sizeTemplate)
	putAddr(h, t.Dst)
	network.PutUint32(h[16:], t.SPI)
	h[20] = t.Proto
	native.PutUint16(h[24:], uint16(t.Family))
	putAddr(h[28:], t.Src)
	native.PutUint32(h[44:], t.Reqid)
	h[48], h[49] = byte(t.Mode), t.Share
	if t.Optional {
		h[50] = 1
	}
	auth, enc, comp := t.AuthAlgs, t.EncAlgs, t.CompAl
	if auth|enc|comp == 0 {
		auth, enc, comp = ^uint32(0), ^uint32(0), ^uint32(0)
	}
	native.PutUint32(h[52:], auth)
	native.PutUint32(h[56:], enc)
	native.PutUint32(h[60:], comp)
	return b
}
