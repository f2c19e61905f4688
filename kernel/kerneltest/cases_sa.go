package kerneltest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

const (
	addrA, addrB   = "192.0.2.1", "198.51.100.1"
	addrA6, addrB6 = "2001:db8::1", "2001:db8:1::1"
)

func addSA(sa *sadb.SA) sadb.Op { return sadb.Op{Kind: sadb.OpAddSA, SA: sa} }
func updSA(sa *sadb.SA) sadb.Op { return sadb.Op{Kind: sadb.OpUpdateSA, SA: sa} }
func delSA(sa *sadb.SA) sadb.Op { return sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: sa.Key}} }
func setAE(sa *sadb.SA) sadb.Op { return sadb.Op{Kind: sadb.OpSetCounters, SA: sa} }

func saCases() []testCase {
	return []testCase{
		{"sa: what is added is dumped, tagged as ours", func(c *check) {
			for i, sa := range []*sadb.SA{SampleSA(addrA, addrB, 0x1001), SampleESN(addrA6, addrB6, 0x1002)} {
				sa.OSeq, sa.Seq, sa.Bitmap[0] = 1000, 500, 0x55
				sa.Bytes, sa.Packets, sa.Age, sa.Used, sa.UseAge = 12345, 67, 100, true, 50
				c.must(addSA(sa))
				got := c.dump().SAs
				if len(got) != i+1 {
					c.Fatalf("%d sas, want %d", len(got), i+1)
				}
				c.same(got[0], sa)
				if !xfrm.IsOurs(got[0].Tag) {
					c.Errorf("tag %#x is not ours", got[0].Tag)
				}
				if got[0].Age < 100 || got[0].Age > 105 || got[0].UseAge < 50 || got[0].UseAge > 55 {
					c.Errorf("age %d and %d, want about 100 and 50", got[0].Age, got[0].UseAge)
				}
			}
		}},
		{"sa: adding what exists fails and changes nothing", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			c.must(addSA(sa))
			other := SampleSA("192.0.2.99", addrB, 0x1001)
			other.Reqid, other.OSeq = 7, 99
			c.fails(errExist, addSA(other))
			c.same(c.one(), sa)
		}},
		{"sa: one failure of a batch is told of the right op and stops no other", func(c *check) {
			var ops []sadb.Op
			for i := range uint32(250) {
				ops = append(ops, addSA(SampleSA(addrA, addrB, 0x2000+i*7919)))
			}
			ops[17] = addSA(SampleSA(addrA, addrB, 0x2000))
			ops[99] = updSA(SampleSA(addrA, addrB, 0x99))
			ops[180] = sadb.Op{Kind: sadb.OpAddSA}
			ops[249] = delSA(SampleSA(addrA, addrB, 0x99))
			for i, err := range c.Apply(c.ctx, ops) {
				switch i {
				case 17:
					if !errors.Is(err, errExist) || !errors.Is(err, unix.EEXIST) {
						c.Errorf("op 17: %v, want %v", err, errExist)
					}
				case 99:
					if !errors.Is(err, errNotExist) {
						c.Errorf("op 99: %v, want %v", err, errNotExist)
					}
				case 180:
					if err == nil {
						c.Error("op 180, without an sa, succeeded")
					}
				default:
					if err != nil {
						c.Errorf("op %d: %v", i, err)
					}
				}
			}
			if n := len(c.dump().SAs); n != 246 {
				c.Errorf("%d sas, want 246", n)
			}
		}},
		{"sa: deleting succeeds whether it is there or not", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			c.must(delSA(sa), addSA(sa), delSA(sa), delSA(sa))
			if n := len(c.dump().SAs); n != 0 {
				c.Errorf("%d sas left", n)
			}
		}},
		{"sa: replaced by delete and add in one batch", func(c *check) {
			sa, other := SampleSA(addrA, addrB, 0x1001), SampleSA(addrA, addrB, 0x1001)
			other.Reqid, other.OSeq = 7, 99
			c.must(addSA(sa))
			c.must(delSA(sa), addSA(other))
			c.same(c.one(), other)
		}},
		{"sa: an update changes lifetimes only and never creates", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.OSeq, sa.Limits.HardAdd = 5, 5000
			c.fails(errNotExist, updSA(sa))
			c.must(addSA(sa))
			up := *sa
			up.Limits.SoftAdd, up.Limits.HardAdd, up.Limits.HardBytes = 3000, 4000, 1<<40
			up.Reqid, up.OSeq, up.Seq = 9, 1, 77
			up.AEAD = &sadb.Algorithm{Name: sa.AEAD.Name,
				Key: sadb.NewSecret([]byte("another key of twenty bytes")[:20]), TruncBits: 128}
			c.must(updSA(&up))
			want := *sa
			want.Limits = up.Limits
			c.same(c.one(), &want)
		}},
		{"sa: an update changes the ports of an encapsulation, not its type", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500, OA: sa.Src.Unmap().Next()}
			c.must(addSA(sa))
			up := *sa
			up.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 61000, OA: sa.Encap.OA}
			c.must(updSA(&up))
			c.same(c.one(), &up)
			up.Encap = nil
			c.fails(unix.EINVAL, updSA(&up))
		}},
		{"sa: the same spi to another address, protocol or family is another", func(c *check) {
			ah := SampleSA(addrA, addrB, 0x1001)
			ah.Key.Proto, ah.AEAD = sadb.ProtoAH, nil
			ah.Auth = &sadb.Algorithm{Name: "hmac(sha256)", Key: sadb.NewSecret([]byte(sampleKey[:32])), TruncBits: 128}
			c.must(addSA(SampleSA(addrA, addrB, 0x1001)), addSA(SampleSA(addrB, addrA, 0x1001)),
				addSA(ah), addSA(SampleSA(addrA6, addrB6, 0x1001)))
			c.must(delSA(ah))
			if n := len(c.dump().SAs); n != 3 {
				c.Errorf("%d sas, want 3", n)
			}
		}},
		{"sa: the mark is part of the identity", func(c *check) {
			one, two := SampleSA(addrA, addrB, 0x1001), SampleSA(addrA, addrB, 0x1001)
			one.Key.Mark, two.Key.Mark = sadb.Mark{Value: 1, Mask: 0xff}, sadb.Mark{Value: 2, Mask: 0xff}
			c.must(addSA(one), addSA(two))
			unmarked := SampleSA(addrA, addrB, 0x1001)
			c.must(delSA(unmarked)) // not there
			if n := len(c.dump().SAs); n != 2 {
				c.Fatalf("%d sas, want 2", n)
			}
			c.must(delSA(one))
			c.same(c.one(), two)
		}},
		{"sa: one without a mark stands for every mark", func(c *check) {
			plain, marked := SampleSA(addrA, addrB, 0x1001), SampleSA(addrA, addrB, 0x1001)
			marked.Key.Mark = sadb.Mark{Value: 1, Mask: 0xff}
			c.must(addSA(plain))
			c.fails(errExist, addSA(marked))
		}},
		{"sa: dumped newest first", func(c *check) {
			var ops []sadb.Op
			for _, spi := range []uint32{0x3003, 0x1001, 0x2002} {
				ops = append(ops, addSA(SampleSA(addrA, addrB, spi)))
			}
			c.must(ops...)
			var got []uint32
			for _, sa := range c.dump().SAs {
				got = append(got, sa.Key.SPI)
			}
			if fmt.Sprint(got) != fmt.Sprint([]uint32{0x2002, 0x1001, 0x3003}) {
				c.Errorf("order %#x", got)
			}
		}},
		{"sa: a tag of ours is kept, any other replaced, all differ", func(c *check) {
			a, b, d := SampleSA(addrA, addrB, 1<<8), SampleSA(addrA, addrB, 2<<8), SampleSA(addrA, addrB, 3<<8)
			a.Tag, b.Tag = 0xe5123456, 77
			c.must(addSA(a), addSA(b), addSA(d))
			sas := c.dump().SAs
			if sas[2].Tag != a.Tag {
				c.Errorf("tag %#x, want %#x", sas[2].Tag, a.Tag)
			}
			if !xfrm.IsOurs(sas[1].Tag) || !xfrm.IsOurs(sas[0].Tag) || sas[0].Tag == sas[1].Tag {
				c.Errorf("tags %#x %#x, want two different ones of ours", sas[0].Tag, sas[1].Tag)
			}
		}},
		{"sa: offloaded, without algorithm or with a wrong bitmap is refused", func(c *check) {
			off, larval, wrong := SampleSA(addrA, addrB, 0x1001), SampleSA(addrA, addrB, 0x1002),
				SampleESN(addrA, addrB, 0x1003)
			off.Offloaded, larval.AEAD, wrong.Bitmap = true, nil, []uint32{1}
			for i, err := range c.Apply(c.ctx, []sadb.Op{addSA(off), addSA(larval), addSA(wrong)}) {
				if err == nil {
					c.Errorf("op %d succeeded", i)
				}
			}
			if n := len(c.dump().SAs); n != 0 {
				c.Errorf("%d sas made", n)
			}
		}},
		{"apply: nothing happens after the context has ended", func(c *check) {
			ctx, cancel := context.WithCancel(c.ctx)
			cancel()
			errs := c.Apply(ctx, []sadb.Op{addSA(SampleSA(addrA, addrB, 1<<8)), addSA(SampleSA(addrA, addrB, 2<<8))})
			for i, err := range errs {
				if !errors.Is(err, context.Canceled) {
					c.Errorf("op %d: %v, want %v", i, err, context.Canceled)
				}
			}
			if n := len(c.dump().SAs); n != 0 {
				c.Errorf("%d sas made", n)
			}
			if errs := c.Apply(c.ctx, nil); len(errs) != 0 {
				c.Errorf("%d errors of no ops", len(errs))
			}
		}},
	}
}
