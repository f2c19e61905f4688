package compare

import (
	"encoding/hex"
	"fmt"
	"strings"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// FieldDifference is one property in which an item here differs from that of a
// peer. Keys are digests under a number that is drawn for each comparison and
// then forgotten: equal digests are equal keys, and nothing else can be learned.
type FieldDifference struct {
	Field string `json:"field"`
	Here  string `json:"here"`
	There string `json:"there"`
}

// fieldsOf names what differs in two records of one item.
func fieldsOf(a, b wire.Record) []FieldDifference {
	var x, y [][2]string
	if a.SA != nil && b.SA != nil {
		x, y = saFields(a.SA), saFields(b.SA)
	} else if a.Policy != nil && b.Policy != nil {
		x, y = policyFields(a.Policy), policyFields(b.Policy)
	}
	var out []FieldDifference
	for i := range min(len(x), len(y)) {
		if x[i][1] != y[i][1] {
			out = append(out, FieldDifference{x[i][0], x[i][1], y[i][1]})
		}
	}
	if len(out) == 0 {
		out = append(out, FieldDifference{"attributes", "unknown to this version", "other contents"})
	}
	return out
}

// saFields prints an SA whose keys are digests.
func saFields(s *sadb.SA) [][2]string {
	out := [][2]string{
		{"src", s.Src.String()}, {"mode", fmt.Sprint(uint8(s.Mode))}, {"reqid", fmt.Sprint(s.Reqid)},
		{"selector", selectorText(s.Selector)},
		{"flags", fmt.Sprintf("0x%x", s.Flags)}, {"extra-flags", fmt.Sprintf("0x%x", s.Extra)},
		{"replay-window", fmt.Sprint(s.Window)}, {"replay-bitmap-words", fmt.Sprint(s.BitmapLen)},
	}
	for _, a := range []struct {
		name string
		*sadb.Algorithm
	}{{"auth", s.Auth}, {"enc", s.Crypt}, {"aead", s.AEAD}, {"comp", s.Comp}} {
		alg, key := "none", "none"
		if a.Algorithm != nil {
			alg = a.Name
			if a.TruncBits != 0 {
				alg += fmt.Sprintf(" icv %d", a.TruncBits)
			}
			if a.Key.Len() > 0 {
				key = "digest " + hex.EncodeToString(a.Key.Bytes())
			}
		}
		out = append(out, [2]string{a.name, alg}, [2]string{a.name + "-key", key})
	}
	encap := "none"
	if e := s.Encap; e != nil {
		encap = fmt.Sprintf("type %d sport %d dport %d", e.Type, e.SrcPort, e.DstPort)
	}
	return append(out, [2]string{"encap", encap}, [2]string{"output-mark", mark(s.OutputMark)},
		[2]string{"if_id", fmt.Sprint(s.IfID)},
		[2]string{"tfcpad", fmt.Sprint(s.TFCPad)}, [2]string{"dir", s.KernelDir.String()},
		[2]string{"cpu", number(s.PCPU)},
		[2]string{"mapping-timer", fmt.Sprint(s.MappingTimer)}, [2]string{"keepalive", fmt.Sprint(s.Keepalive)},
		[2]string{"attributes", attributes(s.Unknown)})
}

func policyFields(p *sadb.Policy) [][2]string {
	var tmpl []string
	for _, t := range p.Templates {
		level := "require"
		if t.Optional {
			level = "use"
		}
		s := fmt.Sprintf("%d %s-%s reqid %d mode %d level %s", t.Proto, t.Src, t.Dst, t.Reqid, t.Mode, level)
		if t.SPI != 0 {
			s += fmt.Sprintf(" spi 0x%08x", t.SPI)
		}
		tmpl = append(tmpl, fmt.Sprintf("%s share %d algorithms %x/%x/%x", s, t.Share, t.AuthAlgs, t.EncAlgs, t.CompAl))
	}
	return [][2]string{
		{"priority", fmt.Sprint(p.Priority)}, {"action", fmt.Sprint(uint8(p.Action))},
		{"flags", fmt.Sprintf("0x%x", p.Flags)},
		{"share", fmt.Sprint(p.Share)}, {"templates", strings.Join(tmpl, "; ")}, {"attributes", attributes(p.Unknown)},
	}
}

func selectorText(s sadb.Selector) string {
	if s == (sadb.Selector{}) || s == (sadb.Selector{Family: s.Family}) {
		return "any"
	}
	src, _ := s.SrcPrefix()
	dst, _ := s.DstPrefix()
	out := fmt.Sprintf("%s to %s proto %d ports %d/%x %d/%x", src, dst, s.Proto, s.SrcPort, s.SrcPortMask, s.DstPort,
		s.DstPortMask)
	if s.Interface != "" {
		out += " dev " + s.Interface
	}
	return out
}

func mark(m *sadb.Mark) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask)
}

func number(n *uint32) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}

// attributes names what this version does not know by type, and tells contents
// apart without printing them: nobody knows what they are.
func attributes(list []sadb.Attr) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, a := range list {
		out = append(out, fmt.Sprintf("%d of %d bytes", a.Type, len(a.Data)))
	}
	return strings.Join(out, ", ")
}
