package show

import (
	"fmt"
	"slices"
	"strings"

	"sasyncd/sync/sadb"
)

// Flows returns one entry per policy, sorted. A policy of direction fwd has none
// where it equals the one of direction in with the same selector, mark and interface.
func Flows(policies []*sadb.Policy, verbose bool) []string {
	var out []string
	shown, alone := forwarded(policies)
	for _, p := range shown {
		s := flow(p)
		if alone[p] {
			s += " without fwd"
		}
		if verbose {
			s += flowDetails(p)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// forwarded returns the policies that have an entry. alone are those of direction
// in that have no fwd policy although they demand a tunnel: the kernel then judges
// what it forwards from that tunnel by another policy, or by none.
func forwarded(policies []*sadb.Policy) (shown []*sadb.Policy, alone map[*sadb.Policy]bool) {
	in, fwd := make(map[sadb.PolicyKey]*sadb.Policy), make(map[sadb.PolicyKey]*sadb.Policy)
	twin := func(k sadb.PolicyKey) sadb.PolicyKey { k.Dir = sadb.DirIn; return k }
	for _, p := range policies {
		switch {
		case p.Socket:
		case p.Key.Dir == sadb.DirIn:
			in[p.Key] = p
		case p.Key.Dir == sadb.DirFwd:
			fwd[twin(p.Key)] = p
		}
	}
	alone = make(map[*sadb.Policy]bool)
	for _, p := range policies {
		if p.Socket {
			continue
		}
		switch p.Key.Dir {
		case sadb.DirIn:
			alone[p] = fwd[p.Key] == nil && slices.ContainsFunc(p.Templates,
				func(t sadb.Template) bool { return t.Mode == sadb.ModeTunnel })
		case sadb.DirFwd:
			if i := in[twin(p.Key)]; i != nil && sameDemand(i, p) {
				continue
			}
		}
		shown = append(shown, p)
	}
	return shown, alone
}

// sameDemand reports whether two policies do the same with packets.
func sameDemand(a, b *sadb.Policy) bool {
	return a.Action == b.Action && a.Priority == b.Priority && slices.Equal(a.Templates, b.Templates)
}

func flowDetails(p *sadb.Policy) string {
	return fmt.Sprintf("\n\tpriority %d use: bytes %d packets %d age %d", p.Priority, p.Use.Bytes, p.Use.Packets,
		p.Use.Age)
}

func flow(p *sadb.Policy) string {
	var b strings.Builder
	proto := "esp"
	if len(p.Templates) > 0 {
		proto = protocol(p.Templates[0].Proto)
	}
	fmt.Fprintf(&b, "flow %s %s", proto, p.Key.Dir)
	sel := p.Key.Selector
	if sel.Proto != 0 {
		fmt.Fprintf(&b, " proto %s", ipProto(sel.Proto))
	}
	src, _ := sel.SrcPrefix()
	dst, _ := sel.DstPrefix()
	fmt.Fprintf(&b, " from %s%s to %s%s", network(src), port(sel.SrcPort, sel.SrcPortMask), network(dst),
		port(sel.DstPort, sel.DstPortMask))
	if len(p.Templates) > 0 {
		t := p.Templates[0]
		peer := t.Src
		if p.Key.Dir == sadb.DirOut {
			peer = t.Dst
		}
		if peer.IsValid() && !peer.IsUnspecified() {
			fmt.Fprintf(&b, " peer %s", peer)
		}
	}
	b.WriteString(" type " + kind(p))
	if len(p.Templates) > 1 {
		var list []string
		for _, t := range p.Templates {
			list = append(list, protocol(t.Proto)+" "+level(t))
		}
		b.WriteString(" transforms " + strings.Join(list, ", "))
	}
	return b.String()
}

// kind is what a policy does: it requires protection if one of its templates
// does, as the kernel lets a packet pass without those that are optional.
func kind(p *sadb.Policy) string {
	switch {
	case p.Action == sadb.ActionBlock:
		return "deny"
	case len(p.Templates) == 0:
		return "bypass"
	case slices.ContainsFunc(p.Templates, func(t sadb.Template) bool { return !t.Optional }):
		return "require"
	}
	return "use"
}

// level is that of one template, as ip-xfrm(8) names it for use.
func level(t sadb.Template) string {
	if t.Optional {
		return "use"
	}
	return "require"
}
