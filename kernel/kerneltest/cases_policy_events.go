package kerneltest

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
)

func policyEventCases() []testCase {
	return []testCase{
		{"policy events: each change is announced to all in order, own ones marked", func(c *check) {
			mine, theirs := c.watch(c.Bench), c.watch(c.Other)
			p, up := samplePolicy(), samplePolicy()
			up.Priority = 77
			c.must(addPol(p), updPol(up), delPol(p))
			for own, ch := range map[bool]<-chan sadb.Event{true: mine, false: theirs} {
				c.same(c.want(ch, sadb.EventPutPolicy, own).Policy, p)
				c.same(c.want(ch, sadb.EventPutPolicy, own).Policy, up)
				c.same(c.want(ch, sadb.EventDeletePolicy, own).Policy, up)
			}
			for _, err := range c.Other.Apply(c.ctx, []sadb.Op{addPol(p), delPol(p)}) {
				if err != nil {
					c.Fatal(err)
				}
			}
			c.want(mine, sadb.EventPutPolicy, false)
			c.want(mine, sadb.EventDeletePolicy, false)
			c.want(theirs, sadb.EventPutPolicy, true)
		}},
		{"policy events: refused and empty operations announce nothing", func(c *check) {
			p, other := samplePolicy(), samplePolicy()
			other.Key.IfID = 9
			c.must(addPol(p))
			ch := c.watch(c.Bench)
			c.fails(errExist, addPol(p))
			c.must(delPol(other), delPol(p))
			if ev := c.want(ch, sadb.EventDeletePolicy, true); ev.Policy.Key != p.Key {
				c.Errorf("deleted %s, want %s", ev.Policy.Key, p.Key)
			}
		}},
		{"policy events: a flush of a type is announced once, and leaves the other", func(c *check) {
			sub := samplePolicy()
			sub.Key.Sub = true
			c.must(addPol(samplePolicy()), addPol(sub))
			ch := c.watch(c.Bench)
			for i, typ := range []bool{true, false} {
				c.FlushPolicy(typ)
				c.FlushPolicy(typ)
				if ev := c.want(ch, sadb.EventFlushPolicy, false); ev.Sub != typ {
					c.Errorf("flush of type %v, want %v", ev.Sub, typ)
				}
				if n := len(c.dump().Policies); n != 1-i {
					c.Errorf("%d policies left, want %d", n, 1-i)
				}
			}
			c.must(addPol(sub))
			c.want(ch, sadb.EventPutPolicy, true)
		}},
		{"policy events: many operations, of which some cannot be, each with its own outcome", func(c *check) {
			const n = 350 // several messages to the kernel
			var ops []sadb.Op
			for i := range n {
				p := samplePolicy()
				p.Key.IfID = uint32(i + 1)
				ops = append(ops, addPol(p))
			}
			ops[99] = sadb.Op{Kind: sadb.OpAddPolicy}
			ops[100] = ops[3]
			ops[250] = delPol(ops[5].Policy)
			ops[251] = delPol(samplePolicy()) // is not there
			ops[n-1] = sadb.Op{Kind: sadb.OpDeleteSA}
			ch := c.watch(c.Bench)
			for i, err := range c.Apply(c.ctx, ops) {
				if bad := i == 99 || i == 100 || i == n-1; (err != nil) != bad {
					c.Errorf("op %d: %v", i, err)
				}
			}
			if got := len(c.dump().Policies); got != n-6 {
				c.Errorf("%d policies, want %d", got, n-6)
			}
			for i, op := range ops {
				switch i {
				case 99, 100, 251, n - 1:
					continue
				case 250:
					c.want(ch, sadb.EventDeletePolicy, true)
					continue
				}
				if ev := c.want(ch, sadb.EventPutPolicy, true); ev.Policy.Key != op.Policy.Key {
					c.Fatalf("op %d announced as %s, want %s", i, ev.Policy.Key, op.Policy.Key)
				}
			}
		}},
		{"policy events: an operation of an ended context is not carried out", func(c *check) {
			ctx, cancel := context.WithCancel(c.ctx)
			cancel()
			for _, err := range c.Apply(ctx, []sadb.Op{addPol(samplePolicy()), delPol(samplePolicy())}) {
				if err == nil {
					c.Error("carried out")
				}
			}
			if n := len(c.dump().Policies); n != 0 {
				c.Errorf("%d policies", n)
			}
		}},
		{"policy events: a hard limit expires a policy without a delete", func(c *check) {
			ch := c.watch(c.Bench)
			p := samplePolicy()
			p.Limits.HardAdd = 1
			c.must(addPol(p))
			c.want(ch, sadb.EventPutPolicy, true)
			if ev := c.want(ch, sadb.EventExpirePolicy, false); !ev.Hard || ev.Policy.Key != p.Key {
				c.Errorf("hard %v of %s, want true of %s", ev.Hard, ev.Policy.Key, p.Key)
			}
			if n := len(c.dump().Policies); n != 0 {
				c.Errorf("%d policies left", n)
			}
		}},
		{"policy events: the channel closes when the context ends", func(c *check) {
			ctx, cancel := context.WithCancel(c.ctx)
			ch, err := c.Watch(ctx)
			if err != nil {
				c.Fatal(err)
			}
			c.must(addPol(samplePolicy()))
			c.want(ch, sadb.EventPutPolicy, true)
			cancel()
			select {
			case ev, ok := <-ch:
				if ok {
					c.Errorf("event kind %d, want the end", ev.Kind)
				}
			case <-time.After(patience):
				c.Error("channel still open")
			}
		}},
	}
}
