package sadb

import (
	"bytes"
	"slices"
)

// SameConfig reports whether two SAs of one identity have the same
// configuration: everything that is replicated but counters, ages and the
// master's judgement of the direction. It is what comparing digests says, at a
// fraction of the cost, for the reading of the tables that comes every second.
func SameConfig(a, b *SA) bool { return a.Limits == b.Limits && SameButLimits(a, b) }

// SameButLimits is SameConfig without a look at the lifetime limits, which a
// standby changes on purpose.
func SameButLimits(a, b *SA) bool {
	return a.Key == b.Key && a.Src == b.Src && a.Selector == b.Selector && a.Mode == b.Mode &&
		a.Reqid == b.Reqid && a.Flags == b.Flags && a.Extra == b.Extra &&
		sameAlgorithm(a.AEAD, b.AEAD) && sameAlgorithm(a.Auth, b.Auth) && sameAlgorithm(a.Crypt, b.Crypt) &&
		sameAlgorithm(a.Comp, b.Comp) &&
		samePointee(a.Encap, b.Encap) && samePointee(a.OutputMark, b.OutputMark) && samePointee(a.PCPU, b.PCPU) &&
		a.IfID == b.IfID && a.TFCPad == b.TFCPad && a.KernelDir == b.KernelDir && a.MappingTimer == b.MappingTimer &&
		a.Keepalive == b.Keepalive && a.Window == b.Window && a.BitmapLen == b.BitmapLen &&
		slices.EqualFunc(a.Unknown, b.Unknown, func(x, y Attr) bool {
			return x.Type == y.Type &&
				bytes.Equal(x.Data, y.Data)
		})
}

func sameAlgorithm(a, b *Algorithm) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.TruncBits == b.TruncBits && a.Name == b.Name && a.Key.Equal(b.Key)
}

func samePointee[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
