// Package show prints SAs and policies in the line format of OpenBSD's
// ipsecctl(8) -s all, sorted, so that the output of two gateways can be
// compared with diff(1). Keys are printed by FlowRules, SARules and AllRules only,
// which write what package ipsecconf reads.
//
// Differences that Linux forces: a policy that the kernel keeps for forwarded
// packets (fwd) is printed where it differs from its twin of direction in; the type
// is the level of the templates in this kernel, which ipsecctl prints as use for
// every inbound flow; algorithms that ipsecctl does not know go by the kernel's
// name; srcid and dstid are not in the kernel.
package show

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sasyncd/sync/sadb"
)

// Last is how long ago each SA carried a packet. Of those that are not in it, it is
// not known.
type Last map[sadb.SAKey]time.Duration

// All writes both sections, FLOWS and SAD, with details if verbose.
func All(w io.Writer, snap *sadb.Snapshot, verbose bool, last Last) error {
	_, err := fmt.Fprintf(w, "FLOWS:\n%s\nSAD:\n%s", section(Flows(snap.Policies, verbose), "No flows"),
		section(SAD(snap.SAs, verbose, last), "No entries"))
	if err == nil && verbose {
		_, err = fmt.Fprint(w, "\nKeys are left out: -k shows them, to root.\n")
	}
	return err
}

func section(lines []string, none string) string {
	if len(lines) == 0 {
		return none + "\n"
	}
	return strings.Join(lines, "\n") + "\n"
}

// SAD returns one entry per SA, by SPI.
func SAD(sas []*sadb.SA, verbose bool, last Last) []string {
	var out []string
	for _, s := range bySPI(sas) {
		if s.Larval() {
			continue
		}
		line := sa(s)
		if verbose {
			line += details(s, last)
		}
		out = append(out, line)
	}
	return out
}

func bySPI(sas []*sadb.SA) []*sadb.SA {
	list := slices.Clone(sas)
	slices.SortFunc(list, func(a, b *sadb.SA) int {
		if c := cmp.Compare(a.Key.SPI, b.Key.SPI); c != 0 {
			return c
		}
		return strings.Compare(sa(a), sa(b))
	})
	return list
}

func sa(s *sadb.SA) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s from %s to %s spi 0x%08x", protocol(s.Key.Proto), modeName(s.Mode), s.Src, s.Key.Dst,
		s.Key.SPI)
	if s.Auth != nil {
		fmt.Fprintf(&b, " auth %s", auth(s.Auth))
	}
	if s.Crypt != nil {
		fmt.Fprintf(&b, " enc %s", enc(s.Crypt))
	}
	if s.AEAD != nil {
		fmt.Fprintf(&b, " enc %s", enc(s.AEAD))
	}
	if s.Comp != nil {
		fmt.Fprintf(&b, " comp %s", s.Comp.Name)
	}
	return b.String()
}

func details(s *sadb.SA, last Last) string {
	var b strings.Builder
	window := s.Window
	fmt.Fprintf(&b, "\n\tsa: reqid %d replay %d flags 0x%x", s.Reqid, window, s.Flags)
	if !s.Key.Mark.IsZero() {
		fmt.Fprintf(&b, " mark 0x%x/0x%x", s.Key.Mark.Value, s.Key.Mark.Mask)
	}
	if s.IfID != 0 {
		fmt.Fprintf(&b, " if_id %d", s.IfID)
	}
	fmt.Fprintf(&b, "\n\tlifetime_cur: bytes %d packets %d add %d first %d", s.Bytes, s.Packets, s.Age, s.UseAge)
	for _, l := range []struct {
		name                  string
		add, use, bytes, pkts uint64
	}{{"hard", s.Limits.HardAdd, s.Limits.HardUse, s.Limits.HardBytes, s.Limits.HardPackets},
		{"soft", s.Limits.SoftAdd, s.Limits.SoftUse, s.Limits.SoftBytes, s.Limits.SoftPackets}} {
		if l.add|l.use == 0 && l.bytes == sadb.NoLimit && l.pkts == sadb.NoLimit {
			continue
		}
		fmt.Fprintf(&b, "\n\tlifetime_%s: bytes %s packets %s add %d first %d", l.name, limit(l.bytes), limit(l.pkts),
			l.add, l.use)
	}
	if s.Encap != nil {
		fmt.Fprintf(&b, "\n\tudpencap: udpencap port %d", s.Encap.DstPort)
	}
	fmt.Fprintf(&b, "\n\treplay: rpl %d out %d", s.Seq, s.OSeq)
	if d, ok := last[s.Key]; ok {
		fmt.Fprintf(&b, "\n\tlast_packet: %.0f s ago", max(d, 0).Seconds())
	}
	return b.String()
}

func limit(v uint64) string {
	if v == sadb.NoLimit {
		return "none"
	}
	return fmt.Sprint(v)
}

func protocol(p uint8) string {
	switch p {
	case sadb.ProtoESP:
		return "esp"
	case sadb.ProtoAH:
		return "ah"
	case sadb.ProtoComp:
		return "ipcomp"
	}
	return fmt.Sprint(p)
}

// ipProto names the protocols that occur in selectors, as /etc/protocols does.
func ipProto(p uint8) string {
	switch p {
	case 1:
		return "icmp"
	case 4:
		return "ipencap"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 47:
		return "gre"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	}
	return fmt.Sprint(p)
}

// network prints a prefix as ipsecctl does: a host without its length.
func network(p netip.Prefix) string {
	if !p.IsValid() {
		return "any"
	}
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func port(v, mask uint16) string {
	switch mask {
	case 0:
		return ""
	case 0xffff:
		return fmt.Sprintf(" port %d", v)
	}
	return fmt.Sprintf(" port %d/0x%x", v, mask)
}

func auth(a *sadb.Algorithm) string {
	names := map[string]string{"hmac(md5)": "hmac-md5", "hmac(sha1)": "hmac-sha1", "hmac(rmd160)": "hmac-ripemd160",
		"hmac(sha256)": "hmac-sha2-256", "hmac(sha384)": "hmac-sha2-384", "hmac(sha512)": "hmac-sha2-512"}
	if n := names[a.Name]; n != "" {
		return n
	}
	return a.Name
}

// enc names a cipher with the size of its key; the salt of the counter modes
// is part of the kernel's key but not of the cipher's.
func enc(a *sadb.Algorithm) string {
	bits := func(salt int) string { return fmt.Sprint(8 * (a.Key.Len() - salt)) }
	switch a.Name {
	case "ecb(cipher_null)", "cipher_null":
		return "null"
	case "cbc(des3_ede)":
		return "3des"
	case "cbc(blowfish)":
		return "blowfish"
	case "cbc(cast5)":
		return "cast128"
	case "cbc(aes)":
		if a.Key.Len() == 16 {
			return "aes"
		}
		return "aes-" + bits(0)
	case "rfc3686(ctr(aes))":
		return "aes-" + bits(4) + "-ctr"
	case "rfc4106(gcm(aes))":
		return "aes-" + bits(4) + "-gcm"
	case "rfc4543(gcm(aes))":
		return "aes-" + bits(4) + "-gmac"
	case "rfc7539esp(chacha20,poly1305)":
		return "chacha20-poly1305"
	}
	return a.Name
}
