package ipsecconf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sasyncd/sync/sadb"
)

// FlowRule returns the rule of a policy, on one line. ok is false for what no rule
// makes: policies that forward, which come with those of the direction in, and
// what the grammar has no word for.
func FlowRule(p *sadb.Policy) (text string, ok bool) {
	s := p.Key.Selector
	if p.Key.Dir != sadb.DirIn && p.Key.Dir != sadb.DirOut || p.Key.Sub || p.Key.IfID != 0 || !p.Key.Mark.IsZero() ||
		p.Key.SecCtx != "" || s.Interface != "" || s.User != 0 || len(p.Templates) > 1 {
		return "", false
	}
	src, okSrc := s.SrcPrefix()
	dst, okDst := s.DstPrefix()
	if !okSrc || !okDst || s.SrcPortMask != 0 && s.SrcPortMask != 0xffff || s.DstPortMask != 0 &&
		s.DstPortMask != 0xffff {
		return "", false
	}
	var b strings.Builder
	proto, kind := "", "bypass"
	switch {
	case len(p.Templates) == 1 && p.Action == sadb.ActionAllow:
		if proto = protoName(p.Templates[0].Proto); proto == "" {
			return "", false
		}
		proto += " "
		kind = "require"
		if p.Templates[0].Optional {
			kind = "use"
		}
	case p.Action == sadb.ActionBlock:
		kind = "deny"
	}
	fmt.Fprintf(&b, "flow %s%s", proto, p.Key.Dir)
	if s.Proto != 0 {
		fmt.Fprintf(&b, " proto %s", upperName(s.Proto))
	}
	fmt.Fprintf(&b, " from %s%s to %s%s", network(src), port(s.SrcPort, s.SrcPortMask), network(dst),
		port(s.DstPort, s.DstPortMask))
	if len(p.Templates) == 1 && p.Action == sadb.ActionAllow {
		t := p.Templates[0]
		local, peer := t.Src, t.Dst
		if p.Key.Dir == sadb.DirIn {
			local, peer = t.Dst, t.Src
		}
		for _, e := range []struct {
			word string
			addr netip.Addr
		}{{"local", local}, {"peer", peer}} {
			if e.addr.IsValid() && !e.addr.IsUnspecified() {
				fmt.Fprintf(&b, " %s %s", e.word, e.addr)
			}
		}
	}
	return b.String() + " type " + kind, true
}

// SARule returns the rule of one SA with its keys, on lines that end in \. ok is
// false for what no rule makes; the text then has no keys.
func SARule(sa *sadb.SA) (text string, ok bool) {
	proto := protoName(sa.Key.Proto)
	mode, ok := map[sadb.Mode]string{sadb.ModeTunnel: "tunnel", sadb.ModeTransport: "transport"}[sa.Mode]
	if !ok || proto == "" || sa.AEAD != nil || sa.Encap != nil || sa.IfID != 0 || !sa.Key.Mark.IsZero() ||
		sa.OutputMark != nil ||
		sa.PCPU != nil || len(sa.Unknown) > 0 || sa.Offloaded || sa.Larval() || sa.Key.SPI < 256 {
		return "", false
	}
	var b, keys strings.Builder
	fmt.Fprintf(&b, "%s %s from %s to %s spi 0x%08x", proto, mode, sa.Src, sa.Key.Dst, sa.Key.SPI)
	key := func(word string, s sadb.Secret) {
		if s.Len() > 0 {
			fmt.Fprintf(&keys, " \\\n\t%s 0x%s", word, hex.EncodeToString(s.Bytes()))
		}
	}
	switch {
	case sa.Comp != nil:
		if sa.Comp.Name != "deflate" || sa.Key.Proto != sadb.ProtoComp {
			return "", false
		}
		b.WriteString(" comp deflate")
		return b.String(), true
	case sa.Auth != nil:
		name := authName(sa.Auth)
		if name == "" {
			return "", false
		}
		b.WriteString(" auth " + name)
		key("authkey", sa.Auth.Key)
	default:
		b.WriteString(" auth none")
	}
	if sa.Crypt != nil {
		name := encName(sa.Crypt)
		if name == "" || sa.Key.Proto != sadb.ProtoESP {
			return "", false
		}
		b.WriteString(" enc " + name)
		key("enckey", sa.Crypt.Key)
	} else if sa.Key.Proto == sadb.ProtoESP {
		return "", false
	}
	return b.String() + keys.String(), true
}

// Print returns a set as a file that Load reads as the same set, keys included.
func Print(s Set) string {
	var flows, sas []string
	for _, f := range s.Flows {
		if text, ok := FlowRule(f.Policies[0]); ok {
			flows = append(flows, text)
		}
	}
	for _, e := range s.SAs {
		if text, ok := SARule(e.SA); ok {
			sas = append(sas, text)
		}
	}
	slices.Sort(flows)
	slices.Sort(sas)
	lines := append(flows, sas...)
	return strings.Join(append(lines, ""), "\n")
}

func protoName(p uint8) string {
	for name, n := range protos {
		if n == p {
			return name
		}
	}
	return ""
}

// upperName is a protocol's number: names differ from machine to machine.
func upperName(p uint8) string {
	switch p {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 47:
		return "gre"
	case 58:
		return "ipv6-icmp"
	}
	return fmt.Sprint(p)
}

// network prints a prefix as ipsecctl does: a host without its length.
func network(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func port(v, mask uint16) string {
	if mask == 0 {
		return ""
	}
	return fmt.Sprintf(" port %d", v)
}
