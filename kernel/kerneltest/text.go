package kerneltest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"sasyncd/sync/sadb"
)

// Text prints the tables in the manner of `ip xfrm state` and `ip xfrm policy`,
// sorted, without dates, use and tags; keys are digests of eight hexadecimal
// digits. What two kernels print here is equal when their configuration is.
func (k *Kernel) Text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var items []string
	for _, s := range k.sas {
		items = append(items, SAText(&s.SA))
	}
	slices.Sort(items)
	n := len(items)
	for _, p := range k.policies {
		items = append(items, PolicyText(&p.Policy))
	}
	slices.Sort(items[n:])
	return strings.Join(items, "")
}

// SnapshotText prints a snapshot like Text, without socket policies.
func SnapshotText(snap *sadb.Snapshot) string {
	var sas, policies []string
	for _, s := range snap.SAs {
		sas = append(sas, SAText(s))
	}
	for _, p := range snap.Policies {
		if !p.Socket {
			policies = append(policies, PolicyText(p))
		}
	}
	slices.Sort(sas)
	slices.Sort(policies)
	return strings.Join(append(sas, policies...), "")
}

// SAText prints the configuration and the sequence numbers of one SA.
func SAText(s *sadb.SA) string {
	var b strings.Builder
	fmt.Fprintf(&b, "src %s dst %s\n", s.Src, s.Key.Dst)
	fmt.Fprintf(&b, "\tproto %d spi 0x%08x reqid %d mode %s\n", s.Key.Proto, s.Key.SPI, s.Reqid, mode(s.Mode))
	fmt.Fprintf(&b, "\treplay-window %d", s.Window)
	flags := []string{"noecn", "decap-dscp", "nopmtudisc", "wildrecv", "icmp", "af-unspec", "align4", "esn"}
	for i, name := range flags {
		if s.Flags&(1<<i) != 0 {
			b.WriteString(" flag " + name)
		}
	}
	if s.Extra != 0 {
		fmt.Fprintf(&b, " extra-flag 0x%x", s.Extra)
	}
	b.WriteString("\n")
	line(&b, !s.Key.Mark.IsZero(), "mark 0x%x/0x%x", s.Key.Mark.Value, s.Key.Mark.Mask)
	if m := s.OutputMark; m != nil {
		line(&b, true, "output-mark 0x%x/0x%x", m.Value, m.Mask)
	}
	line(&b, s.IfID != 0, "if_id 0x%x", s.IfID)
	line(&b, s.TFCPad != 0, "tfcpad %d", s.TFCPad)
	line(&b, s.KernelDir != 0, "dir %s", s.KernelDir)
	if s.PCPU != nil {
		line(&b, true, "pcpu-num %d", *s.PCPU)
	}
	line(&b, s.MappingTimer != 0, "mapping-maxage %d", s.MappingTimer)
	line(&b, s.Keepalive != 0, "nat-keepalive %d", s.Keepalive)
	algorithm(&b, "auth-trunc", s.Auth)
	algorithm(&b, "enc", s.Crypt)
	algorithm(&b, "aead", s.AEAD)
	algorithm(&b, "comp", s.Comp)
	if e := s.Encap; e != nil {
		line(&b, true, "encap type %d sport %d dport %d addr %s", e.Type, e.SrcPort, e.DstPort, e.OA)
	}
	for _, a := range s.Unknown {
		line(&b, true, "attribute %d %x", a.Type, a.Data)
	}
	line(&b, true, "anti-replay seq 0x%x oseq 0x%x bitmap %08x", s.Seq, s.OSeq, s.Bitmap)
	limits(&b, s.Limits)
	line(&b, s.Selector != sadb.Selector{}, "sel %s", selector(s.Selector))
	return b.String()
}

// PolicyText prints the configuration of one policy.
func PolicyText(p *sadb.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", selector(p.Key.Selector))
	kind, action := "main", "allow"
	if p.Key.Sub {
		kind = "sub"
	}
	if p.Action == sadb.ActionBlock {
		action = "block"
	}
	fmt.Fprintf(&b, "\tdir %s action %s priority %d ptype %s", p.Key.Dir, action, p.Priority, kind)
	if p.Flags != 0 {
		fmt.Fprintf(&b, " flag 0x%x", p.Flags)
	}
	b.WriteString("\n")
	line(&b, !p.Key.Mark.IsZero(), "mark 0x%x/0x%x", p.Key.Mark.Value, p.Key.Mark.Mask)
	line(&b, p.Key.IfID != 0, "if_id 0x%x", p.Key.IfID)
	line(&b, p.Key.SecCtx != "", "security context %x", p.Key.SecCtx)
	limits(&b, p.Limits)
	for _, t := range p.Templates {
		level := "required"
		if t.Optional {
			level = "use"
		}
		line(&b, true, "tmpl src %s dst %s family %d proto %d spi 0x%08x reqid %d mode %s level %s share %d algs "+
			"%08x %08x %08x",
			t.Src, t.Dst, t.Family, t.Proto, t.SPI, t.Reqid, mode(t.Mode), level, t.Share, t.AuthAlgs, t.EncAlgs,
			t.CompAl)
	}
	for _, a := range p.Unknown {
		line(&b, true, "attribute %d %x", a.Type, a.Data)
	}
	return b.String()
}

func line(b *strings.Builder, when bool, format string, args ...any) {
	if when {
		fmt.Fprintf(b, "\t"+format+"\n", args...)
	}
}

func mode(m sadb.Mode) string {
	names := []string{"transport", "tunnel", "ro", "in_trigger", "beet", "iptfs"}
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprint(uint8(m))
}

func algorithm(b *strings.Builder, what string, a *sadb.Algorithm) {
	if a == nil {
		return
	}
	sum := sha256.Sum256(a.Key.Bytes())
	line(b, true, "%s %s %d bits digest %x icv %d", what, a.Name, a.Key.Len()*8, sum[:4], a.TruncBits)
}

func limits(b *strings.Builder, l sadb.Limits) {
	line(b, l != sadb.Limits{SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit, SoftPackets: sadb.NoLimit,
		HardPackets: sadb.NoLimit},
		"limit bytes %d/%d packets %d/%d add %d/%d use %d/%d",
		l.SoftBytes, l.HardBytes, l.SoftPackets, l.HardPackets, l.SoftAdd, l.HardAdd, l.SoftUse, l.HardUse)
}

func selector(s sadb.Selector) string {
	end := func(p fmt.Stringer, ok bool, raw sadb.Bytes16, bits uint8) string {
		if ok {
			return p.String()
		}
		return fmt.Sprintf("%x/%d", raw, bits)
	}
	src, ok1 := s.SrcPrefix()
	dst, ok2 := s.DstPrefix()
	out := fmt.Sprintf("src %s dst %s", end(src, ok1, s.Src, s.SrcLen), end(dst, ok2, s.Dst, s.DstLen))
	if s.Proto != 0 {
		out += fmt.Sprintf(" proto %d", s.Proto)
	}
	if s.SrcPort|s.SrcPortMask != 0 {
		out += fmt.Sprintf(" sport %d/0x%x", s.SrcPort, s.SrcPortMask)
	}
	if s.DstPort|s.DstPortMask != 0 {
		out += fmt.Sprintf(" dport %d/0x%x", s.DstPort, s.DstPortMask)
	}
	if s.Interface != "" {
		out += " dev " + s.Interface
	}
	if s.User != 0 {
		out += fmt.Sprintf(" user %d", s.User)
	}
	return out
}
