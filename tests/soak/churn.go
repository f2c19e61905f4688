package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// firstReqid tells the tunnels that are rekeyed from those of the lab, which
// carry traffic.
const firstReqid = 1000

// tunnel is one of those that are rekeyed.
type tunnel struct {
	remote netip.Addr
	inner  netip.Prefix // behind it
	keys   []sadb.SAKey // its SAs now
}

// churner plays the IKE daemon of whichever gateway is MASTER: it adds a pair of
// SAs, then deletes the pair before.
type churner struct {
	t       lab.T
	kernels map[*scenario.Member]*xfrm.Kernel
	pair    *scenario.Pair
	every   time.Duration

	mu      sync.Mutex // held while it works; who holds it has it wait
	r       *rand.Rand
	tunnels []tunnel
	on      *scenario.Member // whose tables the tunnels' keys are of
	rekeys  int
}

func newChurner(t lab.T, p *scenario.Pair, kernels map[*scenario.Member]*xfrm.Kernel, r *rand.Rand, n,
	perMinute int) *churner {
	c := &churner{t: t, pair: p, kernels: kernels, r: r, every: time.Minute / time.Duration(perMinute)}
	for i := range n {
		c.tunnels = append(c.tunnels, tunnel{
			remote: netip.AddrFrom4([4]byte{198, 18 + byte(r.IntN(2)), byte(r.IntN(256)), byte(1 + r.IntN(254))}),
			inner:  netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i>>8), byte(i), 0}), 24),
		})
	}
	return c
}

// install gives the tunnels and their policies to a gateway.
func (c *churner) install(m *scenario.Member) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = m
	for i := range c.tunnels {
		tn := &c.tunnels[i]
		inside, outside := ipNet(lab.LANNet), ipNet(tn.inner)
		vip, remote := lab.VIPOut.AsSlice(), net.IP(tn.remote.AsSlice())
		for _, p := range []netlink.XfrmPolicy{
			{Dir: netlink.XFRM_DIR_OUT, Src: inside, Dst: outside,
				Tmpls: []netlink.XfrmPolicyTmpl{{Src: vip, Dst: remote}}},
			{Dir: netlink.XFRM_DIR_IN, Src: outside, Dst: inside,
				Tmpls: []netlink.XfrmPolicyTmpl{{Src: remote, Dst: vip}}},
			{Dir: netlink.XFRM_DIR_FWD, Src: outside, Dst: inside,
				Tmpls: []netlink.XfrmPolicyTmpl{{Src: remote, Dst: vip}}},
		} {
			p.Priority = 1000
			t := &p.Tmpls[0]
			t.Proto, t.Mode, t.Reqid = netlink.XFRM_PROTO_ESP, netlink.XFRM_MODE_TUNNEL, firstReqid+i
			if err := m.Netlink().XfrmPolicyAdd(&p); err != nil {
				c.t.Fatalf("install policies on %s: %v", m.Name, err)
			}
		}
		c.add(m, i)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// add adds a new pair of SAs to a tunnel, each with a system call of its own and
// without sasyncd's tag, as an IKE daemon does.
func (c *churner) add(m *scenario.Member, i int) {
	tn := &c.tunnels[i]
	for _, ends := range [][2]netip.Addr{{lab.VIPOut, tn.remote}, {tn.remote, lab.VIPOut}} {
		sa := &netlink.XfrmState{
			Src: ends[0].AsSlice(), Dst: ends[1].AsSlice(), Spi: int(0x10000 + c.r.Uint32N(1<<31)),
			Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: firstReqid + i,
			ReplayWindow: 128, ESN: true,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: sadbtest.Bytes(c.r, 20), ICVLen: 128},
		}
		if err := m.Netlink().XfrmStateAdd(sa); err != nil {
			c.t.Errorf("%s: add an SA: %v", m.Name, err)
			continue
		}
		tn.keys = append(tn.keys, sadb.SAKey{Dst: ends[1], SPI: uint32(sa.Spi), Proto: sadb.ProtoESP})
	}
}

// remove deletes SAs. What the churner does not know may be gone: replicated
// deletions, flushes.
func (c *churner) remove(m *scenario.Member, keys []sadb.SAKey) {
	for _, k := range keys {
		err := m.Netlink().XfrmStateDel(&netlink.XfrmState{Dst: k.Dst.AsSlice(), Spi: int(k.SPI),
			Proto: netlink.Proto(k.Proto)})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			c.t.Errorf("%s: delete an SA: %v", m.Name, err)
		}
	}
}

// adopt takes from the tables of a new MASTER what there is to rekey, as an IKE
// daemon that has just become active does not know either.
func (c *churner) adopt(ctx context.Context, m *scenario.Member) error {
	snap, err := c.kernels[m].Dump(ctx)
	if err != nil {
		return err
	}
	for i := range c.tunnels {
		c.tunnels[i].keys = nil
	}
	for _, sa := range snap.SAs {
		if i := int(sa.Reqid) - firstReqid; i >= 0 && i < len(c.tunnels) {
			c.tunnels[i].keys = append(c.tunnels[i].keys, sa.Key)
		}
	}
	c.on = m
	return nil
}

// run rekeys one tunnel after the other until ctx ends. What it could not do for
// want of a MASTER it makes up for, but of five seconds at most.
func (c *churner) run(ctx context.Context) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	due := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if behind := now.Add(-5 * time.Second); due.Before(behind) {
				due = behind
			}
			c.mu.Lock()
			for n := 0; due.Before(now) && n < 20 && c.rekey(ctx); n++ {
				due = due.Add(c.every)
			}
			c.mu.Unlock()
		}
	}
}

// rekey rekeys one tunnel; false when there is nobody who could.
func (c *churner) rekey(ctx context.Context) bool {
	m := c.master()
	if m == nil {
		return false
	}
	if m != c.on {
		if err := c.adopt(ctx, m); err != nil {
			if ctx.Err() == nil {
				c.t.Errorf("%s: read tables: %v", m.Name, err)
			}
			return false
		}
	}
	i := c.r.IntN(len(c.tunnels))
	old := c.tunnels[i].keys
	c.tunnels[i].keys = nil
	c.add(m, i)
	c.remove(m, old)
	c.rekeys++
	return true
}

// master is the gateway that holds the outside VIP, nil for none or two.
func (c *churner) master() (master *scenario.Member) {
	for _, m := range c.pair.Members {
		if holdsVIP(m) {
			if master != nil {
				return nil
			}
			master = m
		}
	}
	return master
}

// done is the number of rekeys so far.
func (c *churner) done() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rekeys
}

// anew is what an IKE daemon does that lost everything: all tunnels are made
// again. The caller holds c.mu.
func (c *churner) anew(m *scenario.Member) {
	for i := range c.tunnels {
		c.tunnels[i].keys = nil
		c.add(m, i)
	}
	c.on = m
}

// drop deletes all tunnels' SAs. The caller holds c.mu.
func (c *churner) drop(m *scenario.Member) {
	for i := range c.tunnels {
		c.remove(m, c.tunnels[i].keys)
		c.tunnels[i].keys = nil
	}
}
