package kerneltest

import (
	"context"
	"errors"

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
		{"counters: of named SAs, in their order, without those that are gone", func(c *check) {
			marked := SampleSA(addrA, addrB, 0x1003)
			marked.Key.Mark = sadb.Mark{Value: 5, Mask: 0xff}
			list := []*sadb.SA{SampleSA(addrA, addrB, 0x1001), SampleESN(addrA, addrB, 0x1002), marked,
				SampleSA(addrB, addrA, 0x1004)}
			var keys []sadb.SAKey
			for i, sa := range list {
				sa.OSeq, sa.Seq, sa.Bytes, sa.Packets = uint64(i+10), uint64(i+20), uint64(i+30), uint64(i+40)
				c.must(addSA(sa), setAE(sa))
				keys = append(keys, sa.Key)
			}
			c.must(sadb.Op{Kind: sadb.OpDeleteSA, SA: list[1]})
			keys = append(keys[:3:3], SampleSA(addrA, addrB, 0x1005).Key)
			got, err := c.Glances(c.ctx, keys)
			if err != nil || len(got) != 2 || got[0].Key != keys[0] || got[1].Key != keys[2] {
				c.Fatalf("%+v, %v", got, err)
			}
			for i, want := range []*sadb.SA{list[0], list[2]} {
				if r := got[i]; r.OSeq != want.OSeq || r.Seq != want.Seq || r.Bytes != want.Bytes ||
					r.Packets != want.Packets {
					c.Errorf("%v: %+v", r.Key, r.Counters)
				}
			}
			for _, sa := range c.dump().SAs {
				if g, err := c.Glances(c.ctx, []sadb.SAKey{sa.Key}); err != nil || len(g) != 1 || c.known[g[0].Config] == nil {
					c.Errorf("%v: a glance has another fingerprint than a scan: %+v, %v", sa.Key, g, err)
				}
			}
			ctx, cancel := context.WithCancel(c.ctx)
			cancel()
			if _, err := c.Glances(ctx, keys); !errors.Is(err, context.Canceled) {
				c.Errorf("after its context: %v", err)
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
