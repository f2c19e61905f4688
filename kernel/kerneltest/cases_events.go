package kerneltest

import (
	"context"
	"time"

	"sasyncd/sync/sadb"
)

func eventCases() []testCase {
	return []testCase{
		{"events: each change is announced to all in order, own ones marked", func(c *check) {
			mine, theirs := c.watch(c.Bench), c.watch(c.Other)
			sa, p := SampleESN(addrA, addrB, 0x1001), samplePolicy()
			sa.OSeq, sa.Seq, sa.Bitmap[1] = 5<<32|7, 9, 0x1234
			c.must(addSA(sa), addPol(p), updPol(p), delPol(p), delSA(sa))
			for own, ch := range map[bool]<-chan sadb.Event{true: mine, false: theirs} {
				c.same(c.want(ch, sadb.EventPutSA, own).SA, sa)
				c.same(c.want(ch, sadb.EventPutPolicy, own).Policy, p)
				c.same(c.want(ch, sadb.EventPutPolicy, own).Policy, p)
				c.same(c.want(ch, sadb.EventDeletePolicy, own).Policy, p)
				c.same(c.want(ch, sadb.EventDeleteSA, own).SA, sa)
			}
		}},
		{"events: what another process does is not own", func(c *check) {
			ch := c.watch(c.Bench)
			sa := SampleSA(addrA, addrB, 0x1001)
			for _, err := range c.Other.Apply(c.ctx, []sadb.Op{addSA(sa), updSA(sa), delSA(sa)}) {
				if err != nil {
					c.Fatal(err)
				}
			}
			c.want(ch, sadb.EventPutSA, false)
			c.want(ch, sadb.EventPutSA, false)
			c.want(ch, sadb.EventDeleteSA, false)
		}},
		{"events: an update of an SA announces the request", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			c.must(addSA(sa))
			ch := c.watch(c.Bench)
			up := *sa
			up.Reqid, up.OSeq, up.Limits.HardAdd = 9, 44, 4000
			c.must(updSA(&up))
			c.same(c.want(ch, sadb.EventPutSA, true).SA, &up)
			want := *sa
			want.Limits.HardAdd = 4000
			c.same(c.one(), &want)
		}},
		{"events: refused and empty operations announce nothing", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			c.must(addSA(sa))
			ch := c.watch(c.Bench)
			c.fails(errExist, addSA(sa))
			c.must(delSA(SampleSA(addrA, addrB, 0x2002)), delPol(samplePolicy()), setAE(sa))
			c.must(delSA(sa))
			c.want(ch, sadb.EventDeleteSA, true)
		}},
		{"events: a flush is announced once, if there was anything", func(c *check) {
			c.must(addSA(SampleSA(addrA, addrB, 1<<8)), addSA(SampleSA(addrA, addrB, 2<<8)), addPol(samplePolicy()))
			ch := c.watch(c.Bench)
			c.FlushSA(0)
			c.FlushSA(0)
			c.FlushPolicy(false)
			c.FlushPolicy(false)
			if ev := c.want(ch, sadb.EventFlushSA, false); ev.Proto != 0 {
				c.Errorf("flush of protocol %d, want all", ev.Proto)
			}
			if ev := c.want(ch, sadb.EventFlushPolicy, false); ev.Sub {
				c.Error("flush of sub policies, want main")
			}
			c.must(addSA(SampleSA(addrA, addrB, 3<<8)))
			c.want(ch, sadb.EventPutSA, true)
			if snap := c.dump(); len(snap.SAs) != 1 || len(snap.Policies) != 0 {
				c.Errorf("%d sas and %d policies left, want 1 and 0", len(snap.SAs), len(snap.Policies))
			}
		}},
		{"events: a flush of a protocol or type leaves the others", func(c *check) {
			ah, sub := SampleSA(addrA, addrB, 0x1001), samplePolicy()
			ah.Key.Proto, ah.AEAD = sadb.ProtoAH, nil
			ah.Auth = &sadb.Algorithm{Name: "hmac(sha256)", Key: sadb.NewSecret([]byte(sampleKey[:32])), TruncBits: 128}
			sub.Key.Sub = true
			c.must(addSA(SampleSA(addrA, addrB, 1<<8)), addSA(ah), addPol(samplePolicy()), addPol(sub))
			ch := c.watch(c.Bench)
			c.FlushSA(sadb.ProtoAH)
			c.FlushPolicy(true)
			if ev := c.want(ch, sadb.EventFlushSA, false); ev.Proto != sadb.ProtoAH {
				c.Errorf("flush of protocol %d, want %d", ev.Proto, sadb.ProtoAH)
			}
			if ev := c.want(ch, sadb.EventFlushPolicy, false); !ev.Sub {
				c.Error("flush of main policies, want sub")
			}
			if snap := c.dump(); len(snap.SAs) != 1 || len(snap.Policies) != 1 {
				c.Errorf("%d sas and %d policies left, want 1 and 1", len(snap.SAs), len(snap.Policies))
			}
		}},
		{"events: a hard limit expires an SA without a delete", func(c *check) {
			ch := c.watch(c.Bench)
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.Age, sa.Limits.HardAdd = 100, 101
			c.must(addSA(sa))
			c.want(ch, sadb.EventPutSA, true)
			ev := c.want(ch, sadb.EventExpireSA, false)
			if !ev.Hard || ev.SA.Key != sa.Key {
				c.Errorf("hard %v of %s, want true of %s", ev.Hard, ev.SA.Key, sa.Key)
			}
			if n := len(c.dump().SAs); n != 0 {
				c.Errorf("%d sas left", n)
			}
			c.must(addPol(samplePolicy()))
			c.want(ch, sadb.EventPutPolicy, true) // and no delete before
		}},
		{"events: a soft limit is announced once and leaves the SA", func(c *check) {
			ch := c.watch(c.Bench)
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.Age, sa.Limits.SoftAdd, sa.Limits.HardAdd = 100, 50, 103
			c.must(addSA(sa))
			c.want(ch, sadb.EventPutSA, true)
			if ev := c.want(ch, sadb.EventExpireSA, false); ev.Hard {
				c.Error("hard, want soft")
			}
			if ev := c.want(ch, sadb.EventExpireSA, false); !ev.Hard {
				c.Error("a second soft one, want hard")
			}
		}},
		{"events: an update restores a soft limit that has passed", func(c *check) {
			sa := SampleSA(addrA, addrB, 0x1001)
			sa.Age = 100
			c.must(addSA(sa))
			ch := c.watch(c.Bench)
			up := *sa
			up.Limits.SoftAdd, up.Limits.HardAdd = 50, 5000
			c.must(updSA(&up))
			c.want(ch, sadb.EventPutSA, true)
			if ev := c.want(ch, sadb.EventExpireSA, false); ev.Hard {
				c.Error("hard, want soft")
			}
		}},
		{"events: the channel closes when the context ends", func(c *check) {
			ctx, cancel := context.WithCancel(c.ctx)
			ch, err := c.Watch(ctx)
			if err != nil {
				c.Fatal(err)
			}
			c.must(addSA(SampleSA(addrA, addrB, 1<<8)))
			c.want(ch, sadb.EventPutSA, true)
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
