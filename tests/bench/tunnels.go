package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/kerneltest"
	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// Tunnels of a takeover, and how often it is repeated.
const (
	fewTunnels  = 100
	manyTunnels = 10_000
	takeovers   = 3
)

// Groups of netlink(7) that a journal can follow, as masks.
const (
	addresses = unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	// Of XFRM: SAs, policies, and counters set by somebody (XFRMNLGRP_SA, _POLICY,
	// _AEVENTS).
	ipsec = 1<<2 | 1<<3 | 1<<4
)

// journal notes when a kernel announced changes of its tables.
type journal struct {
	mu   sync.Mutex
	list []change
}

type change struct {
	at  time.Time
	typ uint16
}

// follow has a node's kernel announce its changes.
func follow(t lab.T, nd *lab.Node, proto int, groups uint32) *journal {
	t.Helper()
	fd := -1
	err := nd.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		wake := unix.NsecToTimeval(int64(50 * time.Millisecond))
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake),
			unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
	})
	if err != nil {
		t.Fatalf("follow the kernel of %s: %v", nd.Name, err)
	}
	j, stop, done := &journal{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		buf := make([]byte, 64<<10)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil || n < unix.NLMSG_HDRLEN {
				continue // nothing for a while
			}
			j.mu.Lock()
			j.list = append(j.list, change{time.Now(), binary.NativeEndian.Uint16(buf[4:])})
			j.mu.Unlock()
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return j
}

// between returns the changes of a period.
func (j *journal) between(from, to time.Time) (list []change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.list {
		if !c.at.Before(from) && c.at.Before(to) {
			list = append(list, c)
		}
	}
	return list
}

// vips is how many addresses a pair's master has.
const vips = 4

// up waits until all virtual IPs have been set since a moment, and returns when
// the last of them was.
func (j *journal) up(t lab.T, from time.Time) (at time.Time) {
	t.Helper()
	lab.Eventually(t, patience, "the virtual IPs are up", func() bool {
		list := slices.DeleteFunc(j.between(from, time.Now()), func(c change) bool { return c.typ != unix.RTM_NEWADDR })
		if len(list) < vips {
			return false
		}
		at = list[vips-1].at
		return true
	})
	return at
}

// tunnels makes what n tunnels to as many sites are in a gateway's kernel: two SAs
// and three policies each.
func tunnels(r *rand.Rand, n int) (ops []sadb.Op) {
	local, site := lab.VIPOut.String(), func(i int) (outer, inner string) {
		return fmt.Sprintf("198.18.%d.%d", i/250, 1+i%250), fmt.Sprintf("172.%d.%d.0/24", 16+i/250, i%250)
	}
	for i, sa := range cluster.SAs(r, 2*n) {
		outer, _ := site(i / 2)
		sa.Reqid = uint32(1000 + i/2)
		sa.Src, sa.Key.Dst = kerneltest.SampleESN(local, outer, 0).Src, kerneltest.SampleESN(local, outer, 0).Key.Dst
		if i%2 == 1 {
			sa.Src, sa.Key.Dst = sa.Key.Dst, sa.Src
			sa.OSeq = 0
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: sa})
	}
	for i := range n {
		outer, inner := site(i)
		for _, dir := range []sadb.Direction{sadb.DirOut, sadb.DirIn, sadb.DirFwd} {
			p := kerneltest.SamplePolicy(dir, lab.LANNet.String(), inner, local, outer)
			if dir != sadb.DirOut {
				p = kerneltest.SamplePolicy(dir, inner, lab.LANNet.String(), outer, local)
			}
			p.Templates[0].Reqid = uint32(1000 + i)
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
		}
	}
	return ops
}

// settled waits until a pair is fit. With many tunnels a snapshot takes its time,
// on a busy host much of it; how long is not what is measured.
func settled(t lab.T, p *scenario.Pair, master, standby *scenario.Member) {
	t.Helper()
	lab.Eventually(t, 3*time.Minute, standby.Name+" follows "+master.Name, func() bool {
		time.Sleep(200 * time.Millisecond) // each answer is a look at all SAs
		a, err1 := master.Status()
		b, err2 := standby.Status()
		return err1 == nil && err2 == nil && a.Groups[0].Role == "MASTER" && b.Groups[0].Role == "BACKUP" &&
			b.Groups[0].InSync && b.Groups[0].SAs > 0
	})
	p.WaitFit(master)
}

// takeover is what one costs: the median time until the virtual IPs are up, and
// the most changes of SAs, counters and policies that the kernel saw before.
type takeover struct {
	cut, order time.Duration
	ops        int
}

// takeOver measures takeovers of a pair with n tunnels beside those of the lab:
// by a power cut, from the last advertisement that was on the wire, and by an
// order, from the order.
func takeOver(t lab.T, n int) takeover {
	t.Helper()
	p := scenario.NewPair(t)
	p.AloneAfter = time.Second
	gw1, gw2 := p.Members[0], p.Members[1]
	var k *xfrm.Kernel
	err := gw1.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err })
	if err == nil {
		err = errors.Join(errors.Join(k.Apply(t.Context(), tunnels(newRand(), n))...), k.Close())
	}
	if err != nil {
		t.Fatalf("set up %d tunnels: %v", n, err)
	}
	for _, m := range p.Members {
		m.StartDaemons()
	}
	settled(t, p, gw1, gw2)
	p.StartHold = 100 * time.Millisecond // from now on
	addrs, tables := follow(t, gw2.Node, unix.NETLINK_ROUTE, addresses), follow(t, gw2.Node, unix.NETLINK_XFRM, ipsec)
	var cuts, orders []time.Duration
	out := takeover{}
	for range takeovers {
		// The last of the master's advertisements, whichever side it is on.
		began, err := scenario.AwaitAdvert(p.H1, "eth0", gw1.InAddr, p.Interval)
		if err != nil {
			t.Fatalf("%v", err)
		}
		gw1.Off()
		from := time.Now() // what was under way has been dealt with
		up := addrs.up(t, began)
		cuts = append(cuts, up.Sub(began))
		out.ops = max(out.ops, len(tables.between(from.Add(p.Interval), up)))
		gw2.WaitRole("MASTER")
		gw1.StartDaemons()
		gw1.PowerOn()
		settled(t, p, gw2, gw1)
		gw2.Resign()
		settled(t, p, gw1, gw2)
		// By order, from gw1 to gw2 and back.
		began = time.Now()
		gw1.Resign()
		orders = append(orders, addrs.up(t, began).Sub(began))
		settled(t, p, gw2, gw1)
		gw2.Resign()
		settled(t, p, gw1, gw2)
	}
	out.cut, out.order = median(cuts), median(orders)
	for _, m := range p.Members {
		m.KillDaemons()
	}
	return out
}

// size: a takeover costs the same however many tunnels there are.
func size(t lab.T) []result.Line {
	few, lots := takeOver(t, fewTunnels), takeOver(t, manyTunnels)
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	cut, order := ratio(lots.cut, few.cut), ratio(lots.order, few.order)
	return []result.Line{
		{What: fmt.Sprintf("takeover with %d tunnels, from the last advert until the VIPs are up", manyTunnels),
			Target: fmt.Sprintf("<= 1.10 of that with %d", fewTunnels),
			Figure: ms(lots.cut), Floor: ms(few.cut), Ratio: cut, Verdict: result.Of(cut <= 1.1),
			Note: fmt.Sprintf("medians of %d power cuts", takeovers)},
		{What: "the same by order, from the order on", Figure: ms(lots.order), Floor: ms(few.order), Ratio: order,
			Verdict: result.Beside,
			Note: fmt.Sprintf("medians of %d; this one is no constant work: behind the fence the old master reads "+
				"its %d SAs once more, for the exact counters", takeovers, 2*manyTunnels)},
		{What: "changes of SAs, counters and policies in the new master's kernel before its VIPs are up", Target: "0",
			Figure: fmt.Sprint(lots.ops), Verdict: result.Of(lots.ops == 0),
			Note: "counted by a listener to the kernel's announcements from one interval after the power cut on; " +
				"TestPrepareIsConstantWork of sync/engine asserts it too"},
	}
}
