package conformance

import (
	"testing"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
)

// TestRealKernelConforms shows that the rules of the fake are those of a
// kernel.
func TestRealKernelConforms(t *testing.T) {
	kerneltest.Conformance(t, func(t *testing.T) kerneltest.Bench {
		enterNS(t)
		k := openKernel(t)
		return kerneltest.Bench{
			Subject: k, Other: openKernel(t), Features: k.Features(),
			FlushSA: func(proto uint8) {
				names := map[uint8]string{0: "", sadb.ProtoESP: " proto esp", sadb.ProtoAH: " proto ah"}
				run(t, "ip xfrm state flush"+names[proto])
			},
			FlushPolicy: func(sub bool) {
				args := ""
				if sub {
					args = " ptype sub"
				}
				run(t, "ip xfrm policy flush"+args)
			},
		}
	}, nil)
}
