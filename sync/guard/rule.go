package guard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sasyncd/sync/sadb"
)

// Left counts outbound policies that are not among the rules, each under one reason. The
// guard behaves as if these policies were not there: it does not hold what such a policy
// encrypts, and may drop what such a policy lets pass in plaintext.
type Left struct {
	Socket    int // of a socket
	Sub       int // of the type sub
	IfID      int // with an if_id: only packets of an xfrm interface match
	Interface int // with an interface in the selector
	SecCtx    int // with a security context
	Family    int // without a family, or with prefix lengths that do not fit it
	Keys      int // bypasses with a GRE key or a type of mobility header
	Never     int // with ports or a mark that no packet has
}

// reasons pairs the counts with their names, in the order of Left.
func (l Left) reasons() []struct {
	n    int
	name string
} {
	return []struct {
		n    int
		name string
	}{
		{l.Socket, "of sockets"}, {l.Sub, "of type sub"}, {l.IfID, "with an if_id"},
		{l.Interface, "with an interface"}, {l.SecCtx, "with a security context"},
		{l.Family, "without a family"}, {l.Keys, "bypass with a key"}, {l.Never, "match no packet"},
	}
}

// Total is how many policies are left out.
func (l Left) Total() (n int) {
	for _, r := range l.reasons() {
		n += r.n
	}
	return n
}

// String lists the reasons that have a count, "none" without any.
func (l Left) String() string {
	var list []string
	for _, r := range l.reasons() {
		if r.n != 0 {
			list = append(list, fmt.Sprintf("%d %s", r.n, r.name))
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

// Of makes rules of the outbound policies, which are in the order in which the kernel
// lists them, and counts those that it leaves out. The rules are in order: by priority,
// then as the policies.
//
// A policy requires IPsec where it blocks, and where one of its templates is not optional.
// Any other is a bypass.
//
// A packet filter does not compare GRE keys. A rule that requires is for every key, and a
// bypass for one is left out.
//
// A rule has NoRoute where IPsec leaves the addresses of a packet as they are, and where
// the outer addresses of any tunnel are in the selector.
func Of(policies []*sadb.Policy) (rules []Rule, left Left) {
	ends := endsOf(policies)
	for _, p := range policies {
		if p.Key.Dir != sadb.DirOut {
			continue
		}
		r, reason := ruleOf(p, &left)
		if reason != nil {
			*reason++
			continue
		}
		r.NoRoute = r.Require && (p.Action == sadb.ActionAllow && !tunnelled(p) || ends.in(r.Selector))
		rules = append(rules, r)
	}
	return inOrder(rules), left
}

// ruleOf makes a rule of a policy, or says which count of left is the policy's.
func ruleOf(p *sadb.Policy, left *Left) (r Rule, reason *int) {
	k, s := &p.Key, p.Key.Selector
	src, srcOK := s.SrcPrefix()
	dst, dstOK := s.DstPrefix()
	switch {
	case p.Socket:
		return r, &left.Socket
	case k.Sub:
		return r, &left.Sub
	case k.IfID != 0:
		return r, &left.IfID
	case s.Interface != "":
		return r, &left.Interface
	case k.SecCtx != "":
		return r, &left.SecCtx
	case !srcOK || !dstOK:
		return r, &left.Family
	case k.Mark.Value&^k.Mark.Mask != 0:
		return r, &left.Never
	}
	r = Rule{Priority: p.Priority, Require: requires(p), Selector: Selector{
		Src: src.Masked(), Dst: dst.Masked(), Proto: s.Proto,
		SrcPort: s.SrcPort & s.SrcPortMask, SrcPortMask: s.SrcPortMask,
		DstPort: s.DstPort & s.DstPortMask, DstPortMask: s.DstPortMask,
		Mark: k.Mark.Value, MarkMask: k.Mark.Mask,
	}}
	keyed := r.Proto != 0 && headerOf(r.ipv6(), r.Proto) == keyedHeader && r.ports()
	switch {
	case keyed && !r.Require:
		return r, &left.Keys
	case keyed:
		r.SrcPort, r.SrcPortMask, r.DstPort, r.DstPortMask = 0, 0, 0, 0
	case len(entriesOf(r)) == 0:
		return r, &left.Never
	}
	return r, nil
}

// requires reports whether a packet that a policy decides cannot leave in plaintext.
func requires(p *sadb.Policy) bool {
	return p.Action != sadb.ActionAllow ||
		slices.ContainsFunc(p.Templates, func(t sadb.Template) bool { return !t.Optional })
}

// tunnels reports whether packets get the addresses of the template. The kernel takes
// those of the packet in any other mode.
func tunnels(t sadb.Template) bool {
	switch t.Mode {
	case sadb.ModeTunnel, sadb.ModeBEET, sadb.ModeIPTFS:
		return t.Dst.IsValid() && !t.Dst.IsUnspecified()
	}
	return false
}

// tunnelled reports whether what a policy encrypts always has other addresses.
func tunnelled(p *sadb.Policy) bool {
	return slices.ContainsFunc(p.Templates, func(t sadb.Template) bool { return !t.Optional && tunnels(t) })
}

// ends is the far ends of tunnels by their near ends, ascending. A near end that the
// kernel chooses is the zero address.
type ends map[netip.Addr][]netip.Addr

// endsOf collects the tunnels of all outbound policies: what those send that are left out
// of the rules is routed as well.
func endsOf(policies []*sadb.Policy) ends {
	e := make(ends)
	for _, p := range policies {
		if p.Key.Dir != sadb.DirOut {
			continue
		}
		for _, t := range p.Templates {
			if !tunnels(t) {
				continue
			}
			src := t.Src
			if src.IsUnspecified() {
				src = netip.Addr{}
			}
			e[src] = append(e[src], t.Dst)
		}
	}
	for src, list := range e {
		slices.SortFunc(list, netip.Addr.Compare)
		e[src] = slices.Compact(list)
	}
	return e
}

// in reports whether both ends of a tunnel are in the selector.
func (e ends) in(s Selector) bool {
	for src, list := range e {
		if src.IsValid() && !s.Src.Contains(src) {
			continue
		}
		// The prefix is masked, so the first far end that is not below it is in it if any is.
		i, _ := slices.BinarySearchFunc(list, s.Dst.Addr(), netip.Addr.Compare)
		if i < len(list) && s.Dst.Contains(list[i]) {
			return true
		}
	}
	return false
}
