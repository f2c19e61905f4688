package kerneltest

import (
	"testing"

	"sasyncd/sync/sadb"
)

// TestFit: what a kernel knows stays as it is, in the same SA; of what it does not know nothing is
// left, and what is lacking is named.
func TestFit(t *testing.T) {
	all := sadb.AllFeatures()
	few := all
	few.CPUs = 2
	one := func() *uint32 { n := uint32(1); return &n }
	two := func() *uint32 { n := uint32(2); return &n }
	for _, sa := range Directed() {
		if fit, lack := all.Fit(sa.SA); fit != sa.SA || lack != 0 {
			t.Errorf("%s: a kernel that knows all goes without %v", sa.Name, lack.Names())
		}
		fit, lack := sadb.Features{}.Fit(sa.SA)
		if fit.KernelDir != sadb.DirUnknown || fit.Keepalive != 0 || fit.PCPU != nil {
			t.Errorf("%s: %+v has what the kernel does not know", sa.Name, fit)
		}
		if fit.ESN() && (fit.Window == 0 || fit.BitmapLen == 0) {
			t.Errorf("%s: an ESN SA without a window", sa.Name)
		}
		want := sadb.LackDirection
		if sa.Keepalive != 0 {
			want |= sadb.LackKeepalive
		}
		if sa.PCPU != nil {
			want |= sadb.LackPCPU
		}
		if lack != want || len(lack.Names()) == 0 {
			t.Errorf("%s: goes without %v, want %v", sa.Name, lack.Names(), want.Names())
		}
		if fit.OSeq != sa.OSeq || fit.Seq != sa.Seq || fit.Flags != sa.Flags || fit.MappingTimer != sa.MappingTimer {
			t.Errorf("%s: more is gone", sa.Name)
		}
		if again, lack := (sadb.Features{}).Fit(fit); again != fit || lack != 0 {
			t.Errorf("%s: not all is gone at once", sa.Name)
		}
		sa.PCPU = one()
		if fit, lack := few.Fit(sa.SA); fit != sa.SA || lack != 0 {
			t.Errorf("%s: a CPU that the kernel has is gone", sa.Name)
		}
		sa.PCPU = two()
		if fit, lack := few.Fit(sa.SA); fit.PCPU != nil || lack != sadb.LackPCPU || fit.KernelDir != sa.KernelDir {
			t.Errorf("%s: a CPU that the kernel does not have stays, or more is gone", sa.Name)
		}
	}
}
