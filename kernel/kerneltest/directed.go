package kerneltest

import "sasyncd/sync/sadb"

// DirectedSA is an SA with a direction, and what its form is called.
type DirectedSA struct {
	Name string
	*sadb.SA
}

// Directed returns an SA of each form that a kernel takes with a direction (XFRMA_SA_DIR): with
// 32-bit and 64-bit numbers, a window of each kind, and what only one direction may have. Those
// of a CPU name the first, which every kernel has.
func Directed() (list []DirectedSA) {
	add := func(name string, dir sadb.Direction, change ...func(*sadb.SA)) {
		spi := 0x3000 + uint32(len(list))
		sa := SampleSA(addrA, addrB, spi)
		if dir == sadb.DirIn {
			sa = SampleSA(addrB, addrA, spi)
			sa.Seq, sa.Bitmap[0] = 77, 0x1f
		} else {
			sa.Window, sa.OSeq = 0, 99
		}
		sa.KernelDir = dir
		for _, f := range change {
			f(sa)
		}
		list = append(list, DirectedSA{name, sa})
	}
	inESN := func(sa *sadb.SA) {
		sa.Flags |= sadb.FlagESN
		sa.Window, sa.BitmapLen, sa.Bitmap, sa.Seq = 128, 4, []uint32{0x7f, 0, 0, 0}, 1<<32|7
	}
	outESN := func(sa *sadb.SA) {
		sa.Flags |= sadb.FlagESN
		sa.Bitmap, sa.OSeq = nil, 2<<32|5
	}
	udp := func(sa *sadb.SA) {
		sa.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500, OA: sa.Src}
	}
	cpu := func(sa *sadb.SA) { sa.PCPU = new(uint32) }
	add("in", sadb.DirIn)
	add("in-no-window", sadb.DirIn, func(sa *sadb.SA) { sa.Window, sa.Seq, sa.Bitmap[0] = 0, 0, 0 })
	add("in-esn", sadb.DirIn, inESN)
	add("in-bitmap", sadb.DirIn, func(sa *sadb.SA) {
		sa.Window, sa.BitmapLen, sa.Bitmap = 100, 4, []uint32{0x7f, 0, 0, 0}
	})
	add("in-timer", sadb.DirIn, udp, func(sa *sadb.SA) { sa.MappingTimer = 30 })
	add("in-flags", sadb.DirIn, func(sa *sadb.SA) {
		sa.Flags |= sadb.FlagNoECN | sadb.FlagDecapDSCP | sadb.FlagWildRecv | sadb.FlagICMP
	})
	add("in-output-mark", sadb.DirIn, func(sa *sadb.SA) {
		sa.OutputMark, sa.IfID = &sadb.Mark{Value: 3, Mask: 0xff}, 5
	})
	add("in-cpu", sadb.DirIn, cpu)
	add("out", sadb.DirOut)
	add("out-esn", sadb.DirOut, outESN)
	add("out-keepalive", sadb.DirOut, udp, func(sa *sadb.SA) { sa.Keepalive = 20 })
	add("out-may-wrap", sadb.DirOut, func(sa *sadb.SA) { sa.Extra = sadb.ExtraMayWrap })
	add("out-dscp", sadb.DirOut, func(sa *sadb.SA) { sa.Extra = xflagDontEncapDSCP })
	add("out-flags", sadb.DirOut, func(sa *sadb.SA) { sa.Flags |= sadb.FlagNoECN | sadb.FlagNoPMTU })
	add("out-tfc", sadb.DirOut, func(sa *sadb.SA) { sa.TFCPad = 1400 })
	add("out-cpu", sadb.DirOut, cpu)
	add("out-esn-cpu", sadb.DirOut, outESN, cpu)
	return list
}

// directed returns the SA of one form, changed.
func directed(form string, change func(*sadb.SA)) *sadb.SA {
	for _, sa := range Directed() {
		if sa.Name == form {
			change(sa.SA)
			return sa.SA
		}
	}
	panic("no form " + form)
}
