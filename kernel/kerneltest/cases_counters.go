package kerneltest

import (
	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

func counterCases() []testCase {
	return []testCase{
		{"counters: written to 32-bit, bitmap and ESN windows, also backwards", func(c *check) {
			ring := SampleSA(addrA, addrB, 0x1003)
			ring.Window, ring.BitmapLen, ring.Bitmap = 100, 4, make([]uint32, 4)
			for _, sa := range []*sadb.SA{SampleSA(addrA, addrB, 0x1001), SampleESN(addrA, addrB, 0x1002), ring} {
				c.must(addSA(sa))
				for _, seq := range []uint64{5000, 70000, 300} {
					up := *sa
					up.OSeq, up.Seq = seq, seq+1
					if sa.ESN() {
						up.OSeq, up.Seq = up.OSeq|3<<32, up.Seq|2<<32
					}
					up.Bitmap = []uint32{0xaaaa5555, 1, 2, 3}[:len(sa.Bitmap)]
					up.Bytes, up.Packets, up.Age, up.Used, up.UseAge = seq*100, seq, 40, true, 30
					c.must(setAE(&up))
					c.same(c.dump().SAs[0], &up)
				}
			}
		}},
		{"counters: an unknown bitmap marks the whole window as seen", func(c *check) {
			legacy, esn, ring := SampleSA(addrA, addrB, 0x1001), SampleESN(addrA, addrB, 0x1002),
				SampleSA(addrA, addrB, 0x1003)
			legacy.Window = 7
			ring.Window, ring.BitmapLen, ring.Bitmap = 40, 2, make([]uint32, 2)
			want := map[uint32][]uint32{
				0x1001: {0x7f}, 0x1002: {^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}, 0x1003: {^uint32(0), 0xff},
			}
			for _, sa := range []*sadb.SA{legacy, esn, ring} {
				up := *sa
				up.Seq, up.Bitmap = 1000, nil
				c.must(addSA(sa), setAE(&up))
				up.Bitmap = want[sa.Key.SPI]
				c.same(c.dump().SAs[0], &up)
			}
		}},
		{"counters: an unknown bitmap of an SA that received nothing is empty", func(c *check) {
			sa := SampleESN(addrA, addrB, 0x1002)
			up := *sa
			up.OSeq, up.Bitmap = 1000, nil
			c.must(addSA(sa), setAE(&up))
			up.Bitmap = make([]uint32, 4)
			c.same(c.one(), &up)
		}},
		{"counters: never create an SA", func(c *check) {
			c.fails(errNotExist, setAE(SampleSA(addrA, addrB, 0x1001)))
			if n := len(c.dump().SAs); n != 0 {
				c.Errorf("%d sas made", n)
			}
		}},
		{"counters: of the wrong kind are ignored, use is taken", func(c *check) {
			legacy, esn := SampleSA(addrA, addrB, 0x1001), SampleESN(addrA, addrB, 0x1001)
			legacy.OSeq, legacy.Seq = 10, 20
			c.must(addSA(legacy))
			esn.OSeq, esn.Seq, esn.Bytes, esn.Packets = 1000, 2000, 5, 6
			c.must(setAE(esn))
			want := *legacy
			want.Bytes, want.Packets = 5, 6
			c.same(c.one(), &want)
		}},
		{"counters: a bitmap of another length is refused", func(c *check) {
			sa := SampleESN(addrA, addrB, 0x1001)
			c.must(addSA(sa))
			up := *sa
			up.OSeq, up.BitmapLen, up.Bitmap = 99, 8, make([]uint32, 8)
			c.fails(unix.EINVAL, setAE(&up))
			c.same(c.one(), sa)
		}},
		{"counters: the SA with the mark is meant", func(c *check) {
			one, two := SampleSA(addrA, addrB, 0x1001), SampleSA(addrA, addrB, 0x1001)
			one.Key.Mark, two.Key.Mark = sadb.Mark{Value: 1, Mask: 0xff}, sadb.Mark{Value: 2, Mask: 0xff}
			c.must(addSA(one), addSA(two))
			up := *one
			up.OSeq = 77
			c.must(setAE(&up))
			for _, sa := range c.dump().SAs {
				if want := map[uint32]uint64{1: 77, 2: 0}[sa.Key.Mark.Value]; sa.OSeq != want {
					c.Errorf("mark %d: oseq %d, want %d", sa.Key.Mark.Value, sa.OSeq, want)
				}
			}
			none := SampleSA(addrA, addrB, 0x1001)
			c.fails(errNotExist, setAE(none))
		}},
		{"counters: 64-bit numbers of an SA without ESN are refused", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			c.must(addSA(sa))
			up := *sa
			up.OSeq = 1 << 32
			if c.Apply(c.ctx, []sadb.Op{setAE(&up)})[0] == nil {
				c.Error("succeeded")
			}
			c.same(c.one(), sa)
		}},
	}
}
