package leakguard_test

import (
	"net/netip"
	"testing"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// class makes a class of keys, whose prefixes are those of the shape: the first source
// and destination give it its lengths.
func class(src, dst string, shape guard.Shape, keys ...guard.Key) guard.Class {
	s, d := prefix(src), prefix(dst)
	shape.IPv6, shape.SrcBits, shape.DstBits = s.Addr().Is6(), s.Bits(), d.Bits()
	if len(keys) == 0 {
		keys = []guard.Key{{}}
	}
	for i := range keys {
		if !keys[i].Src.IsValid() {
			keys[i].Src, keys[i].Dst = s.Addr(), d.Addr()
		}
	}
	return guard.Class{Shape: shape, Keys: keys}
}

// Shapes beside addresses.
var (
	plain    = guard.Shape{}
	protocol = guard.Shape{Proto: true}
	toPort   = guard.Shape{Proto: true, Ports: guard.TransportPorts, DstPortMask: 0xffff}
	types    = guard.Shape{Proto: true, Ports: guard.ICMPTypes, SrcPortMask: 0xff, DstPortMask: 0xff}
	marked   = guard.Shape{MarkMask: 0xff}
)

func need(classes ...guard.Class) guard.Layer { return guard.Layer{Require: true, Classes: classes} }
func pass(classes ...guard.Class) guard.Layer { return guard.Layer{Classes: classes} }

func program(layers ...guard.Layer) guard.Program { return guard.Program{Layers: layers} }

func (s *stage) set(own leakguard.Own, layers ...guard.Layer) {
	s.t.Helper()
	if err := s.f.Set(s.t.Context(), program(layers...), own); err != nil {
		s.t.Fatal(err)
	}
	there(s.t, s.f, true)
}

func there(t *testing.T, f *leakguard.Filter, want bool) {
	t.Helper()
	if got, err := f.There(t.Context()); err != nil || got != want {
		t.Errorf("the table is there: %v, %v, want %v", got, err, want)
	}
}
