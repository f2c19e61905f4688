package sadb

import (
	"fmt"
	"net/netip"
	"testing"
)

func fullSA() *SA {
	alg := func(name string) *Algorithm {
		return &Algorithm{Name: name, Key: NewSecret([]byte("0123456789abcdef")), TruncBits: 128}
	}
	cpu := uint32(3)
	return &SA{Key: SAKey{Dst: netip.MustParseAddr("198.51.100.1"), SPI: 0x1001, Proto: ProtoESP, Mark: Mark{1, 2}},
		Src: netip.MustParseAddr("192.0.2.1"), Selector: Selector{Family: FamilyIPv4}, Reqid: 4, Extra: 5, Mode: 1,
		Flags: 6, KernelDir: DirOut, Auth: alg("a"), Crypt: alg("b"), AEAD: alg("c"), Comp: alg("d"),
		Encap: &Encap{Type: 2, SrcPort: 4500, DstPort: 4501}, OutputMark: &Mark{7, 8}, PCPU: &cpu, IfID: 9, TFCPad: 10,
		MappingTimer: 11, Keepalive: 12, Unknown: []Attr{{99, []byte{1}}}, Window: 13, BitmapLen: 14,
		Limits: Limits{SoftAdd: 15}}
}

// TestSameConfig: each part of a configuration counts, and nothing that moves by itself or
// is local.
func TestSameConfig(t *testing.T) {
	for name, change := range map[string]func(*SA){
		"destination": func(s *SA) { s.Key.Dst = s.Key.Dst.Next() }, "spi": func(s *SA) { s.Key.SPI++ },
		"mark": func(s *SA) { s.Key.Mark.Value++ }, "source": func(s *SA) { s.Src = s.Src.Next() },
		"selector": func(s *SA) { s.Selector.User++ }, "mode": func(s *SA) { s.Mode++ }, "reqid": func(s *SA) { s.Reqid++ },
		"flags": func(s *SA) { s.Flags++ }, "extra flags": func(s *SA) { s.Extra++ },
		"aead name": func(s *SA) { s.AEAD.Name = "x" }, "no aead": func(s *SA) { s.AEAD = nil },
		"auth": func(s *SA) { s.Auth.TruncBits++ }, "no auth": func(s *SA) { s.Auth = nil },
		"crypt": func(s *SA) { s.Crypt.Key = NewSecret([]byte("0123456789abcdeg")) },
		"comp":  func(s *SA) { s.Comp.Name = "x" }, "encap": func(s *SA) { s.Encap.DstPort++ },
		"no encap": func(s *SA) { s.Encap = nil }, "output mark": func(s *SA) { s.OutputMark.Mask++ },
		"no output mark": func(s *SA) { s.OutputMark = nil }, "cpu": func(s *SA) { *s.PCPU++ },
		"no cpu": func(s *SA) { s.PCPU = nil }, "if_id": func(s *SA) { s.IfID++ }, "padding": func(s *SA) { s.TFCPad++ },
		"direction of the kernel": func(s *SA) { s.KernelDir = DirIn }, "timer": func(s *SA) { s.MappingTimer++ },
		"keepalive": func(s *SA) { s.Keepalive++ }, "window": func(s *SA) { s.Window++ },
		"bitmap": func(s *SA) { s.BitmapLen++ }, "unknown type": func(s *SA) { s.Unknown[0].Type++ },
		"unknown data": func(s *SA) { s.Unknown[0].Data[0]++ }, "no unknown": func(s *SA) { s.Unknown = nil },
	} {
		a, b := fullSA(), fullSA()
		if !SameConfig(a, b) || !SameButLimits(a, b) {
			t.Fatal("equal SAs differ")
		}
		if change(b); SameConfig(a, b) || SameButLimits(a, b) || SameConfig(b, a) {
			t.Errorf("%s does not count", name)
		}
	}
	a, b := fullSA(), fullSA()
	if b.Limits.HardAdd++; SameConfig(a, b) || !SameButLimits(a, b) {
		t.Error("limits count where they must not, or not where they must")
	}
	b = fullSA()
	b.OSeq, b.Seq, b.Bytes, b.Packets, b.Bitmap, b.Age, b.Used, b.UseAge = 1, 2, 3, 4, []uint32{5}, 6, true, 7
	b.Tag, b.Dir, b.Offloaded = 8, DirIn, true
	if !SameConfig(a, b) {
		t.Error("what moves by itself, or is local, counts")
	}
}

// TestKindsOfSAs: what is replicated and what is not.
func TestKindsOfSAs(t *testing.T) {
	for n := range 256 {
		s, proto := fullSA(), uint8(n)
		s.Key.Proto = proto
		if want := proto == ProtoESP || proto == ProtoAH || proto == ProtoComp; s.Replicable() != want {
			t.Errorf("protocol %d: replicable %v", proto, s.Replicable())
		}
	}
	s := fullSA()
	if s.Offloaded = true; s.Replicable() {
		t.Error("an offloaded SA is replicable")
	}
	s = &SA{Key: s.Key}
	if !s.Larval() || s.Replicable() {
		t.Error("an SA without an algorithm is not larval, or is replicable")
	}
	for i, set := range []func(*SA, *Algorithm){func(s *SA, a *Algorithm) { s.Auth = a },
		func(s *SA, a *Algorithm) { s.Crypt = a }, func(s *SA, a *Algorithm) { s.AEAD = a },
		func(s *SA, a *Algorithm) { s.Comp = a }} {
		s = &SA{Key: s.Key}
		if set(s, &Algorithm{}); s.Larval() || !s.Replicable() {
			t.Errorf("an SA with algorithm %d alone is larval", i)
		}
	}
	for reqid, want := range map[uint32]bool{StaticReqid: true, StaticReqid - 1: false, StaticReqid + 1: false} {
		if (&SA{Reqid: reqid}).Static() != want {
			t.Errorf("reqid %#x is static: %v", reqid, !want)
		}
	}
	for prio, want := range map[uint32]bool{StaticPriority: true, StaticPriority - 1: false,
		StaticPriority + staticPriorities - 1: true, StaticPriority + staticPriorities: false} {
		if got := (&Policy{Priority: prio, Templates: []Template{{Reqid: StaticReqid}}}).Static(); got != want {
			t.Errorf("priority %d is static: %v", prio, got)
		}
	}
	if (&Policy{Priority: StaticPriority, Templates: []Template{{Reqid: StaticReqid}, {Reqid: 1}}}).Static() {
		t.Error("a policy with another's template is static")
	}
	if !(&Policy{Priority: StaticPriority}).Static() {
		t.Error("a bypass flow is not static")
	}
}

// TestMoved: each counter, and not the bitmap.
func TestMoved(t *testing.T) {
	c := Counters{OSeq: 1, Seq: 2, Bytes: 3, Packets: 4}
	for i, o := range []Counters{{OSeq: 2, Seq: 2, Bytes: 3, Packets: 4}, {OSeq: 1, Seq: 3, Bytes: 3, Packets: 4},
		{OSeq: 1, Seq: 2, Bytes: 4, Packets: 4}, {OSeq: 1, Seq: 2, Bytes: 3, Packets: 5}} {
		if !c.Moved(&o) {
			t.Errorf("counter %d does not move", i)
		}
	}
	if o := c; o.Moved(&c) {
		t.Error("equal counters have moved")
	}
	if o := (Counters{OSeq: 1, Seq: 2, Bytes: 3, Packets: 4, Bitmap: []uint32{1}}); o.Moved(&c) {
		t.Error("a bitmap moves")
	}
}

// TestSecretsOfAnyLength keep what they were given, and say when it is nothing but zeros.
func TestSecretsOfAnyLength(t *testing.T) {
	for _, n := range []int{0, 1, 47, 48, 49, 255, 256, 257, 16 << 10, 16<<10 + 1} {
		b := make([]byte, n)
		s := NewSecret(b)
		if s.Len() != n || len(s.Bytes()) != n || s.IsZero() != (n > 0) {
			t.Errorf("%d zeros: length %d, zero %v", n, s.Len(), s.IsZero())
		}
		for i := range b {
			b[i] = byte(i%251 + 1)
		}
		s = NewSecret(b)
		if string(s.Bytes()) != string(b) || s.IsZero() || !s.Equal(NewSecret(b)) || n > 0 && s.Equal(NewSecret(b[1:])) {
			t.Errorf("%d bytes are not kept", n)
		}
		if n > 1 {
			clear(b[:n-1])
			if NewSecret(b).IsZero() {
				t.Errorf("%d bytes of which the last is not zero are zero", n)
			}
		}
	}
}

// TestSelectors: addresses of both families and lengths that fit.
func TestSelectors(t *testing.T) {
	for _, tt := range []struct{ src, dst string }{{"10.1.0.0/16", "10.2.0.0/32"}, {"fd00::/64", "::/0"},
		{"0.0.0.0/0", "192.0.2.1/31"}} {
		src, dst := netip.MustParsePrefix(tt.src), netip.MustParsePrefix(tt.dst)
		s := SelectorOf(src, dst)
		a, aok := s.SrcPrefix()
		b, bok := s.DstPrefix()
		if a != src || b != dst || !aok || !bok || s.Family != FamilyOf(src.Addr()) {
			t.Errorf("%s to %s became %s to %s", src, dst, a, b)
		}
	}
	for _, tt := range []struct {
		f    Family
		bits uint8
		ok   bool
	}{{FamilyIPv4, 32, true}, {FamilyIPv4, 33, false}, {FamilyIPv6, 128, true}, {FamilyIPv6, 129, false},
		{FamilyAny, 0, false}} {
		s := Selector{Family: tt.f, SrcLen: tt.bits, DstLen: tt.bits}
		_, src := s.SrcPrefix()
		_, dst := s.DstPrefix()
		if src != tt.ok || dst != tt.ok {
			t.Errorf("family %d, %d bits: %v, %v", tt.f, tt.bits, src, dst)
		}
	}
	k := SAKey{Dst: netip.MustParseAddr("192.0.2.1"), SPI: 0x1f, Proto: ProtoAH}
	if k.String() != "ah dst 192.0.2.1 spi 0x0000001f" {
		t.Error(k)
	}
	if k.Mark, k.Proto = (Mark{0x10, 0xff}), ProtoComp; k.String() != "comp dst 192.0.2.1 spi 0x0000001f mark 0x10/0xff" {
		t.Error(k)
	}
	if k.Proto = 99; fmt.Sprint(k)[:3] != "99 " {
		t.Error(k)
	}
}

// TestWithoutSoft: only the soft limits go.
func TestWithoutSoft(t *testing.T) {
	l := Limits{SoftBytes: 1, HardBytes: 2, SoftPackets: 3, HardPackets: 4, SoftAdd: 5, HardAdd: 6, SoftUse: 7, HardUse: 8}
	if got, want := l.WithoutSoft(), (Limits{SoftBytes: NoLimit, HardBytes: 2, SoftPackets: NoLimit, HardPackets: 4,
		HardAdd: 6, HardUse: 8}); got != want {
		t.Errorf("%+v", got)
	}
}
