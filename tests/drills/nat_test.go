package drills

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// encapSocket opens a UDP port for ESP in UDP in a node, as an IKE daemon does.
func encapSocket(t lab.T, nd *lab.Node, family int, port int) (end func()) {
	t.Helper()
	fd := -1
	err := nd.Do(func() (err error) {
		if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		var addr unix.Sockaddr = &unix.SockaddrInet4{Port: port}
		if family == unix.AF_INET6 {
			addr = &unix.SockaddrInet6{Port: port}
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
		const udpEncap, espInUDP = 100, 2 // linux/udp.h
		return errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpEncap, espInUDP), unix.Bind(fd, addr))
	})
	if err != nil {
		t.Fatalf("open udp port %d of %s: %v", port, nd.Name, err)
	}
	open := true
	end = func() {
		if open {
			_ = unix.Close(fd)
		}
		open = false
	}
	t.Cleanup(end)
	return end
}

// natted gives the pair tunnels in UDP to a remote end behind a NAT, which the
// remote gateway plays itself: it sends from the ports that a NAT would give.
func natted(t *testing.T, port uint16) *scenario.Pair {
	t.Helper()
	p := scenario.NewPair(t)
	for i := range p.Tunnels {
		p.Tunnels[i].NATPort = port
	}
	for _, nd := range []*lab.Node{p.Members[0].Node, p.RGW} {
		nd.IP("xfrm state flush", "xfrm policy flush")
	}
	lab.Install(p.Members[0].Node, p.Tunnels)
	lab.InstallRemote(p.RGW, p.Tunnels)
	return p
}

// remap moves the remote end of the tunnels of a family to another port, and
// from one address to another.
func remap(t *testing.T, rgw *lab.Node, port uint16, from, to netip.Addr) {
	t.Helper()
	family := unix.AF_INET
	if from.Is6() {
		family = unix.AF_INET6
	}
	encapSocket(t, rgw, family, int(port))
	var k *xfrm.Kernel
	if err := rgw.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx := context.Background()
	snap, err := k.Dump(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ops []sadb.Op
	for _, sa := range snap.SAs {
		c, encap := *sa, *sa.Encap
		c.Encap = &encap
		switch from {
		case sa.Src:
			c.Src, encap.SrcPort = to, port
			c.OSeq += 1000 // sent between reading and writing
		case sa.Key.Dst:
			c.Key.Dst, encap.DstPort = to, port
		default:
			continue
		}
		if from == to {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: &c})
			continue
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: sa}, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
	}
	for _, pol := range snap.Policies {
		c := *pol
		c.Templates = []sadb.Template{pol.Templates[0]}
		switch tm := &c.Templates[0]; from {
		case tm.Src:
			tm.Src = to
		case tm.Dst:
			tm.Dst = to
		default:
			continue
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &c})
	}
	if err := errors.Join(k.Apply(ctx, ops)...); err != nil {
		t.Fatal(err)
	}
}

// Tunnels through NAT, with no IKE daemon on either gateway: sasyncd holds UDP
// port 4500 where nobody else does, so that a new master's kernel takes ESP out
// of UDP at once, and follows a remote end that comes from elsewhere.
func TestNAT(t *testing.T) {
	const first = 40000
	p := natted(t, first)
	encapSocket(t, p.RGW, unix.AF_INET, first)
	encapSocket(t, p.RGW, unix.AF_INET6, first)
	p.Start()
	gw1, gw2 := p.Members[0], p.Members[1]
	const held = "held_ipv4=true held_ipv6=true"
	gw1.Sasyncd.WaitLog(held, limit)
	gw2.Sasyncd.WaitLog(held, limit)
	m, c := traffic(t, p)
	flowing(t, m, rate)

	gw1.Off()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate)
	gw1.Return()
	p.WaitFit(gw2)

	same := func(what string) {
		t.Helper()
		flowing(t, m, rate/2)
		lab.Eventually(t, limit, "gw1 to hold what gw2 has "+what, func() bool {
			return len(scenario.Differences(tables(t, gw2), tables(t, gw1), "gw2", "gw1")) == 0
		})
	}
	// The NAT forgets, and gives both families another port.
	remap(t, p.RGW, first+1, lab.RGWOut, lab.RGWOut)
	remap(t, p.RGW, first+1, lab.RGWOut6, lab.RGWOut6)
	same("after another port")
	// And another address.
	elsewhere := [2]netip.Addr{netip.MustParseAddr("192.0.2.101"), netip.MustParseAddr("2001:db8::101")}
	p.RGW.IP("addr add 192.0.2.101/24 dev wan0", "addr add 2001:db8::101/64 dev wan0 nodad")
	remap(t, p.RGW, first+2, lab.RGWOut, elsewhere[0])
	remap(t, p.RGW, first+2, lab.RGWOut6, elsewhere[1])
	same("after another address")
	for _, g := range p.Members {
		tb := tables(t, g)
		if len(tb.States) != 4 || len(tb.Policies) != 6 {
			t.Errorf("%s has %d SAs and %d policies, want 4 and 6", g.Name, len(tb.States), len(tb.Policies))
		}
	}
	s, err := gw2.Status()
	if err != nil || s.Counts.Mappings != 4 || s.Counts.KernelErrors != 0 {
		t.Errorf("%d remote ends were followed with %d errors of the kernel, want 4 and 0: %v", s.Counts.Mappings,
			s.Counts.KernelErrors, err)
	}

	// What was followed is the other gateway's too.
	gw2.Resign()
	p.WaitFit(gw1)
	flowing(t, m, rate)

	// An IKE daemon comes: the port is its own at once, and sasyncd's again when
	// it has gone.
	end := encapSocket(t, gw1.Node, unix.AF_INET, 4500)
	gw1.Sasyncd.WaitLog("held_ipv4=false held_ipv6=true", limit)
	flowing(t, m, rate/2)
	before := time.Now()
	end()
	flowing(t, m, rate/2)
	t.Logf("without anybody on the port for %v", m.Between(before, time.Now()).Gap)

	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
}
