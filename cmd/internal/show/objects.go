package show

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sasyncd/cmd/internal/report"
	"sasyncd/sync/sadb"
)

// FlowObjects returns all policies but those of sockets, sorted by their text.
func FlowObjects(policies []*sadb.Policy) []report.Flow {
	out := []report.Flow{}
	for _, p := range policies {
		if p.Socket {
			continue
		}
		sel := p.Key.Selector
		src, _ := sel.SrcPrefix()
		dst, _ := sel.DstPrefix()
		f := report.Flow{Text: flow(p), Direction: p.Key.Dir.String(), Type: kind(p), From: src.String(),
			To:       dst.String(),
			FromPort: portObject(sel.SrcPort, sel.SrcPortMask), ToPort: portObject(sel.DstPort, sel.DstPortMask),
			Priority: p.Priority,
			Mark:     markObject(p.Key.Mark), IfID: p.Key.IfID, Templates: []report.Template{}, Bytes: p.Use.Bytes,
			Packets: p.Use.Packets, Age: float64(p.Use.Age)}
		if sel.Proto != 0 {
			f.Protocol = ipProto(sel.Proto)
		}
		for _, t := range p.Templates {
			x := report.Template{Protocol: protocol(t.Proto), Mode: modeName(t.Mode), Src: addrObject(t.Src),
				Dst: addrObject(t.Dst), Reqid: t.Reqid, Level: level(t)}
			if t.SPI != 0 {
				x.SPI = fmt.Sprintf("0x%08x", t.SPI)
			}
			f.Templates = append(f.Templates, x)
		}
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b report.Flow) int { return cmp.Compare(a.Text, b.Text) })
	return out
}

// SAObjects returns all SAs by SPI, with their keys if asked for.
func SAObjects(sas []*sadb.SA, keys bool, last Last) []report.SA {
	out := []report.SA{}
	for _, a := range bySPI(sas) {
		if a.Larval() {
			continue
		}
		x := report.SA{Text: sa(a), Protocol: protocol(a.Key.Proto), Mode: modeName(a.Mode), Src: a.Src.String(),
			Dst: a.Key.Dst.String(),
			SPI: fmt.Sprintf("0x%08x", a.Key.SPI), Reqid: a.Reqid, Window: a.Window, ESN: a.ESN(),
			Mark: markObject(a.Key.Mark), IfID: a.IfID,
			SeqIn: a.Seq, SeqOut: a.OSeq, Bytes: a.Bytes, Packets: a.Packets, Age: float64(a.Age),
			Soft: lifetime(a.Limits.SoftBytes, a.Limits.SoftPackets, a.Limits.SoftAdd, a.Limits.SoftUse),
			Hard: lifetime(a.Limits.HardBytes, a.Limits.HardPackets, a.Limits.HardAdd, a.Limits.HardUse)}
		if a.Used {
			age := float64(a.UseAge)
			x.UseAge = &age
		}
		if d, ok := last[a.Key]; ok {
			age := max(d, 0).Seconds()
			x.LastPacket = &age
		}
		if a.Encap != nil {
			x.UDPEncap = a.Encap.DstPort
		}
		if a.Comp != nil {
			x.Comp = a.Comp.Name
		}
		key := func(k *sadb.Algorithm) string {
			if !keys {
				return ""
			}
			return "0x" + hex.EncodeToString(k.Key.Bytes())
		}
		if a.Auth != nil {
			x.Auth, x.AuthKey = auth(a.Auth), key(a.Auth)
		}
		for _, c := range []*sadb.Algorithm{a.Crypt, a.AEAD} {
			if c != nil {
				x.Enc, x.EncKey = enc(c), key(c)
			}
		}
		out = append(out, x)
	}
	return out
}

func lifetime(bytes, packets, add, use uint64) *report.Lifetime {
	var l report.Lifetime
	seconds := func(v uint64) *float64 {
		if v == 0 {
			return nil
		}
		f := float64(v)
		return &f
	}
	if bytes != sadb.NoLimit {
		l.Bytes = &bytes
	}
	if packets != sadb.NoLimit {
		l.Packets = &packets
	}
	l.Add, l.Use = seconds(add), seconds(use)
	if l == (report.Lifetime{}) {
		return nil
	}
	return &l
}

func portObject(v, mask uint16) string { return strings.TrimPrefix(port(v, mask), " port ") }

func markObject(m sadb.Mark) string {
	if m.IsZero() {
		return ""
	}
	return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask)
}

func addrObject(a netip.Addr) string {
	if !a.IsValid() || a.IsUnspecified() {
		return ""
	}
	return a.String()
}

func modeName(m sadb.Mode) string {
	return map[sadb.Mode]string{sadb.ModeTransport: "transport", sadb.ModeTunnel: "tunnel", sadb.ModeBEET: "beet",
		sadb.ModeIPTFS: "iptfs"}[m]
}
