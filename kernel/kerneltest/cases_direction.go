package kerneltest

import (
	"errors"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

// directionCases are about what newer kernels know. Each says what a kernel that does not know
// it does, too.
func directionCases() []testCase {
	return []testCase{
		{"direction: each form is held as far as the kernel knows it", func(c *check) {
			for _, sa := range Directed() {
				fit, _ := c.Features.Fit(sa.SA)
				c.must(addSA(fit))
				c.same(bitmapped(c.one()), bitmapped(fit))
				up := *fit
				if up.Bitmap = nil; sa.KernelDir == sadb.DirIn {
					up.Seq += 1000
				} else {
					up.OSeq += 1000
				}
				c.must(setAE(&up))
				if got := c.one(); got.OSeq != up.OSeq || got.Seq != up.Seq {
					c.Errorf("%s: counters %d and %d, want %d and %d", sa.Name, got.OSeq, got.Seq, up.OSeq, up.Seq)
				}
				c.must(updSA(fit), delSA(fit))
			}
		}},
		{"direction: what belongs to the other one is refused, or ignored with the direction", func(c *check) {
			for _, w := range []struct {
				form   string
				change func(*sadb.SA)
			}{
				{"out", func(sa *sadb.SA) { sa.Window = 32 }},
				{"out", func(sa *sadb.SA) { sa.Seq = 1 }},
				{"out", func(sa *sadb.SA) { sa.Bitmap = []uint32{1} }},
				{"out", func(sa *sadb.SA) { sa.Flags |= sadb.FlagDecapDSCP }},
				{"out", func(sa *sadb.SA) { sa.Flags |= sadb.FlagWildRecv }},
				{"out", func(sa *sadb.SA) { sa.Flags |= sadb.FlagICMP }},
				{"out", func(sa *sadb.SA) { sa.Keepalive = 20 }}, // without UDP
				{"out-keepalive", func(sa *sadb.SA) { sa.Keepalive, sa.MappingTimer = 0, 20 }},
				{"out-keepalive", func(sa *sadb.SA) { sa.KernelDir = sadb.DirUnknown }},
				{"out-cpu", func(sa *sadb.SA) { sa.KernelDir = sadb.DirUnknown }},
				{"in-esn", func(sa *sadb.SA) { sa.OSeq = 1 }},
				{"in", func(sa *sadb.SA) { sa.Flags |= sadb.FlagNoPMTU }},
				{"in", func(sa *sadb.SA) { sa.Extra = sadb.ExtraMayWrap }},
				{"in", func(sa *sadb.SA) { sa.Extra = xflagDontEncapDSCP }},
				{"in-timer", func(sa *sadb.SA) { sa.Keepalive, sa.MappingTimer = 20, 0 }},
			} {
				sa := directed(w.form, w.change)
				f := c.Features
				known := f.Direction && (sa.PCPU == nil || f.PCPU) && (sa.Keepalive == 0 || f.Keepalive)
				switch err := c.Apply(c.ctx, []sadb.Op{addSA(sa)})[0]; {
				case known && errors.Is(err, unix.EINVAL):
				case !known && err == nil:
					if got := c.one(); got.Keepalive != 0 || got.PCPU != nil {
						c.Errorf("the kernel knows more than it says: %+v", got)
					}
					c.must(delSA(sa))
				default:
					c.Errorf("%s, changed to %+v: error %v, known %v", w.form, sa, err, known)
				}
			}
		}},
		{"direction: a kernel without directions wants a window of an outbound ESN SA", func(c *check) {
			sa := directed("out-esn", func(*sadb.SA) {})
			if c.Features.Direction {
				c.must(addSA(sa))
				return
			}
			c.fails(unix.EINVAL, addSA(sa))
			fit, _ := c.Features.Fit(sa)
			c.must(addSA(fit), setAE(fit))
		}},
		{"direction: an update finds the SA of the direction that it names", func(c *check) {
			for _, sa := range Directed() {
				fit, _ := c.Features.Fit(sa.SA)
				c.must(addSA(fit))
				other := SampleSA(addrA, addrB, fit.Key.SPI)
				other.Key, other.Src, other.Encap, other.Selector = fit.Key, fit.Src, fit.Encap, fit.Selector
				err := c.Apply(c.ctx, []sadb.Op{updSA(other)})[0]
				if c.Features.Direction != errors.Is(err, unix.ESRCH) || !c.Features.Direction && err != nil {
					c.Errorf("%s: an update without a direction: %v", sa.Name, err)
				}
				c.must(delSA(fit))
			}
		}},
		{"cpu: one that the kernel cannot have is refused", func(c *check) {
			sa := directed("out-cpu", func(sa *sadb.SA) { *sa.PCPU = 1 << 20 })
			if c.Features.PCPU {
				c.fails(unix.ERANGE, addSA(sa))
				return
			}
			c.must(addSA(sa))
			if got := c.one(); got.PCPU != nil {
				c.Errorf("CPU %d", *got.PCPU)
			}
		}},
		{"cpu: SAs of one tunnel differ in it alone", func(c *check) {
			var want []*sadb.SA
			for i := range uint32(2) { // of the first CPU, and of all
				sa := directed("out-cpu", func(sa *sadb.SA) {
					if sa.Key.SPI = 0x5000 + i; i == 1 {
						sa.PCPU = nil
					}
				})
				fit, _ := c.Features.Fit(sa)
				c.must(addSA(fit))
				want = append([]*sadb.SA{fit}, want...)
			}
			c.same(c.dump().SAs, want)
		}},
		{"attributes: what the kernel does not know is ignored", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.Unknown = []sadb.Attr{{Type: 200, Data: []byte{1, 2, 3, 4}}}
			c.must(addSA(sa))
			sa.Unknown = nil
			c.same(c.one(), sa)
		}},
	}
}

// bitmapped returns an SA whose bitmap is there, if it has words.
func bitmapped(sa *sadb.SA) *sadb.SA {
	c := *sa
	if c.Bitmap == nil {
		c.Bitmap = make([]uint32, c.BitmapLen)
	}
	if len(c.Bitmap) == 0 {
		c.Bitmap = nil
	}
	return &c
}
