package kerneltest

import (
	"fmt"
	"net/netip"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

func addPol(p *sadb.Policy) sadb.Op { return sadb.Op{Kind: sadb.OpAddPolicy, Policy: p} }
func updPol(p *sadb.Policy) sadb.Op { return sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: p} }
func delPol(p *sadb.Policy) sadb.Op {
	return sadb.Op{Kind: sadb.OpDeletePolicy, Policy: &sadb.Policy{Key: p.Key}}
}

func samplePolicy() *sadb.Policy {
	return SamplePolicy(sadb.DirOut, "10.1.0.0/16", "10.2.0.0/16", addrA, addrB)
}

func policyCases() []testCase {
	return []testCase{
		{"policy: what is added is dumped, with an index of ours", func(c *check) {
			wild := SamplePolicy(sadb.DirOut, "2001:db8::/32", "::/0", "::", "::")
			wild.Templates[0].Mode, wild.Templates[0].Optional = sadb.ModeTransport, false
			block := &sadb.Policy{Priority: 3, Action: sadb.ActionBlock, Limits: NoLimits()}
			block.Key.Dir = sadb.DirFwd
			block.Key.Selector = sadb.SelectorOf(netip.MustParsePrefix("0.0.0.0/0"),
				netip.MustParsePrefix("10.0.0.0/8"))
			for i, p := range []*sadb.Policy{samplePolicy(), wild, block} {
				p.Flags, p.Limits.HardAdd = 1, 5000
				c.must(addPol(p))
				got := c.dump().Policies
				if len(got) != i+1 {
					c.Fatalf("%d policies, want %d", len(got), i+1)
				}
				c.same(got[0], p)
				if !xfrm.IsOurPolicy(got[0].Index) {
					c.Errorf("index %#x is not ours", got[0].Index)
				}
			}
		}},
		{"policy: priority is not part of the identity", func(c *check) {
			p, other := samplePolicy(), samplePolicy()
			other.Priority = 1
			c.must(addPol(p))
			c.fails(errExist, addPol(other))
			c.same(c.onePolicy(), p)
		}},
		{"policy: direction, type, selector, mark and if_id are", func(c *check) {
			var ops []sadb.Op
			for i := range 7 {
				p := samplePolicy()
				switch i {
				case 1:
					p.Key.Dir = sadb.DirFwd
				case 2:
					p.Key.Sub = true
				case 3:
					p.Key.Selector.DstLen = 24
				case 4:
					p.Key.Mark = sadb.Mark{Value: 1, Mask: 0xff}
				case 5:
					p.Key.Mark = sadb.Mark{Value: 1, Mask: 0xffff}
				case 6:
					p.Key.IfID = 4
				}
				ops = append(ops, addPol(p))
			}
			c.must(ops...)
			for i, op := range ops {
				c.must(delPol(op.Policy))
				if n := len(c.dump().Policies); n != len(ops)-1-i {
					c.Fatalf("after delete %d: %d policies", i, n)
				}
			}
		}},
		{"policy: an update creates, replaces, and keeps the index", func(c *check) {
			p := samplePolicy()
			c.must(updPol(p))
			index := c.onePolicy().Index
			up := samplePolicy()
			up.Priority, up.Action, up.Templates = 5, sadb.ActionBlock, nil
			c.must(updPol(up))
			got := c.onePolicy()
			c.same(got, up)
			if got.Index != index {
				c.Errorf("index %#x, was %#x", got.Index, index)
			}
		}},
		{"policy: deleting succeeds whether it is there or not", func(c *check) {
			p := samplePolicy()
			c.must(delPol(p), addPol(p), delPol(p), delPol(p))
			if n := len(c.dump().Policies); n != 0 {
				c.Errorf("%d policies left", n)
			}
		}},
		{"policy: empty algorithm masks become full ones", func(c *check) {
			p := samplePolicy()
			p.Templates[0].AuthAlgs, p.Templates[0].EncAlgs, p.Templates[0].CompAl = 0, 0, 0
			c.must(addPol(p))
			c.same(c.onePolicy(), samplePolicy())
		}},
		{"policy: dumped newest first, an update counts as new", func(c *check) {
			var list []*sadb.Policy
			for i := range 3 {
				p := samplePolicy()
				p.Priority = uint32(i)
				p.Key.Selector.DstPort, p.Key.Selector.DstPortMask, p.Key.Selector.Proto = uint16(i+1), 0xffff, 17
				list = append(list, p)
				c.must(addPol(p))
			}
			c.must(updPol(list[1]))
			var got []uint32
			for _, p := range c.dump().Policies {
				got = append(got, p.Priority)
			}
			if fmt.Sprint(got) != "[1 2 0]" {
				c.Errorf("order %v, want [1 2 0]", got)
			}
		}},
		{"policy: a bad selector is refused", func(c *check) {
			p := samplePolicy()
			p.Key.Selector.DstLen = 33
			q := samplePolicy()
			q.Key.Selector.Family = 77
			for i, err := range c.Apply(c.ctx, []sadb.Op{addPol(p), addPol(q)}) {
				if err == nil {
					c.Errorf("op %d succeeded", i)
				}
			}
		}},
	}
}
