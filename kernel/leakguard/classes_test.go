package leakguard_test

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/tests/harness/lab"
)

// TestClasses: what each kind of class drops, and what it leaves alone, of what is
// forwarded and of what the gateway sends, dropped by the forward chain and, where there
// is none, by those behind the routing.
func TestClasses(t *testing.T) {
	s := newStage(t)
	for _, own := range []leakguard.Own{{}, {NoEarly: true}} {
		for _, v := range []struct {
			name                   string
			host, inner, remote    netip.Addr
			lan, rem, other, whole string
			icmp                   int
			echo                   byte
		}{
			{"IPv4", host, inner, remote, "10.1.0.0/24", "10.2.0.0/24", "10.2.1.0/24", "10.0.0.0/8", unix.IPPROTO_ICMP, 8},
			{"IPv6", host6, inner6, remote6, "fd01::/64", "fd02::/64", "fd02:0:0:1::/64", "fd00::/8", unix.IPPROTO_ICMPV6, 128},
		} {
			name := v.name
			if own.NoEarly {
				name += " behind the routing"
			}
			udp := func(src netip.Addr, sport, dport uint16) packet {
				return packet{src: src, dst: v.remote, proto: unix.IPPROTO_UDP, payload: segment(sport, dport, 8)}
			}
			of := func(p packet, proto int) packet {
				p.proto = proto
				return p
			}
			from := []struct {
				what string
				nd   *lab.Node
				src  netip.Addr
			}{{"forwarded", s.h1, v.host}, {"the gateway's", s.gw, v.inner}}

			s.set(own, need(class(v.lan, v.rem, plain)))
			for _, x := range from {
				s.dropsIt(name+": addresses, "+x.what, x.nd, udp(x.src, 7, 9))
				s.dropsIt(name+": addresses, any protocol, "+x.what, x.nd, of(udp(x.src, 7, 9), 99))
			}
			s.passes(name+": another source", s.gw, udp(map[bool]netip.Addr{false: outer, true: outer6}[v.remote.Is6()], 7, 9))
			s.set(own, need(class(v.lan, v.other, plain), class(v.other, v.rem, plain)))
			for _, x := range from {
				s.passes(name+": other addresses, "+x.what, x.nd, udp(x.src, 7, 9))
			}
			// The other order of prefixes is another selector.
			s.set(own, need(class(v.rem, v.lan, plain)))
			s.passes(name+": the other direction", s.h1, udp(v.host, 7, 9))

			s.set(own, need(class(v.lan, v.rem, protocol, guard.Key{Proto: 99}, guard.Key{Proto: unix.IPPROTO_TCP})))
			for _, x := range from {
				s.dropsIt(name+": protocol, "+x.what, x.nd, of(udp(x.src, 7, 9), 99))
				s.passes(name+": another protocol, "+x.what, x.nd, udp(x.src, 7, 9))
			}

			transport := []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE}
			for _, proto := range append(transport, unix.IPPROTO_DCCP) {
				s.set(own, need(class(v.lan, v.rem, toPort, guard.Key{Proto: uint8(proto), DstPort: 9})))
				for _, x := range from {
					s.dropsIt(name+": port, "+x.what, x.nd, of(udp(x.src, 7, 9), proto))
					s.passes(name+": another port, "+x.what, x.nd, of(udp(x.src, 9, 7), proto))
				}
				s.passes(name+": the port in another protocol", s.h1, of(udp(v.host, 7, 9), 99))
			}
			s.set(own, need(class(v.lan, v.rem, guard.Shape{Ports: guard.TransportPorts, SrcPortMask: 0xfff0,
				DstPortMask: 0xffff}, guard.Key{SrcPort: 0x120, DstPort: 9})))
			for _, proto := range transport {
				s.dropsIt(name+": ports of any protocol", s.h1, of(udp(v.host, 0x12f, 9), proto))
				s.passes(name+": ports outside the mask", s.h1, of(udp(v.host, 0x130, 9), proto))
			}
			s.passes(name+": ports where there are none", s.h1, of(udp(v.host, 0x12f, 9), 99))

			icmp := func(kind, code byte) packet {
				return packet{src: v.host, dst: v.remote, proto: v.icmp, payload: message(kind, code)}
			}
			s.set(own, need(class(v.lan, v.rem, types, guard.Key{Proto: uint8(v.icmp), SrcPort: uint16(v.echo), DstPort: 3})))
			s.dropsIt(name+": type and code", s.h1, icmp(v.echo, 3))
			s.passes(name+": another code", s.h1, icmp(v.echo, 4))
			s.passes(name+": another type", s.h1, icmp(200, 3))
			s.passes(name+": type and code of UDP", s.h1, udp(v.host, uint16(v.echo)<<8|3, 9))
			s.set(own, need(class(v.lan, v.rem, guard.Shape{Ports: guard.ICMPTypes, SrcPortMask: 0xff},
				guard.Key{SrcPort: uint16(v.echo)})))
			s.dropsIt(name+": type with any code", s.h1, icmp(v.echo, 4))

			s.set(own, need(class(v.lan, v.rem, marked, guard.Key{Mark: 0x2a})))
			for mark, dropped := range map[int]bool{0x2a: true, 0x12a: true, 0x2b: false, 0: false} {
				p := udp(v.inner, 7, 9)
				p.mark = mark
				if dropped {
					s.dropsIt(name+": mark", s.gw, p)
				} else {
					s.passes(name+": another mark", s.gw, p)
				}
			}
			all := toPort
			all.SrcPortMask, all.MarkMask = 0xffff, 0xff
			s.set(own, need(class(v.lan, v.rem, all, guard.Key{Proto: unix.IPPROTO_UDP, SrcPort: 7, DstPort: 9, Mark: 0x2a})))
			p := udp(v.inner, 7, 9)
			s.passes(name+": everything but the mark", s.gw, p)
			p.mark = 0x2a
			s.dropsIt(name+": everything", s.gw, p)

			s.set(own, pass(class(v.lan, v.rem, toPort, guard.Key{Proto: unix.IPPROTO_UDP, DstPort: 53})),
				need(class(v.lan, v.rem, plain)), pass(class(v.whole, v.whole, plain)), need(class("0.0.0.0/0", "0.0.0.0/0", plain),
					class("::/0", "::/0", plain)))
			s.passes(name+": a bypass before", s.h1, udp(v.host, 7, 53))
			s.dropsIt(name+": the bypass behind", s.h1, udp(v.host, 7, 9))
			s.passes(name+": the bypass before everything", s.gw, udp(map[bool]netip.Addr{false: outer,
				true: outer6}[v.remote.Is6()], 7, 9))
		}
	}
}

// TestFragments: no fragment of what a class drops leaves, without connection tracking,
// and none is taken for something by what it has in place of a header.
func TestFragments(t *testing.T) {
	s := newStage(t)
	const size = 3996 // three fragments
	for _, v := range []struct {
		name                string
		host, inner, remote netip.Addr
		lan, rem            string
	}{
		{"IPv4", host, inner, remote, "10.1.0.0/24", "10.2.0.0/24"},
		{"IPv6", host6, inner6, remote6, "fd01::/64", "fd02::/64"},
	} {
		// The payload is ports, so each fragment begins with some.
		datagram := func(port uint16) packet {
			b := segment(port, port, size)
			for i := 8; i+1 < len(b); i += 2 {
				b[i+1] = 9
			}
			return packet{src: v.host, dst: v.remote, proto: unix.IPPROTO_UDP, payload: b}
		}
		udp := func(port uint16) guard.Key { return guard.Key{Proto: unix.IPPROTO_UDP, SrcPort: port, DstPort: port} }
		ports := toPort
		ports.SrcPortMask = 0xffff

		s.set(leakguard.Own{}, need(class(v.lan, v.rem, plain)))
		s.expect(v.name+": addresses", s.h1, datagram(9), 0, 3)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, protocol, guard.Key{Proto: unix.IPPROTO_UDP})))
		s.expect(v.name+": protocol", s.h1, datagram(9), 0, 3)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, protocol, guard.Key{Proto: unix.IPPROTO_TCP})))
		s.expect(v.name+": another protocol", s.h1, datagram(9), 3, 0)

		s.set(leakguard.Own{}, need(class(v.lan, v.rem, ports, udp(9))))
		s.expect(v.name+": ports", s.h1, datagram(9), 0, 3)
		// Nobody knows the port of a later fragment.
		s.expect(v.name+": other ports", s.h1, datagram(10), 1, 2)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, ports, guard.Key{Proto: unix.IPPROTO_TCP, SrcPort: 9, DstPort: 9})))
		s.expect(v.name+": ports of another protocol", s.h1, datagram(9), 3, 0)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, guard.Shape{Ports: guard.TransportPorts, DstPortMask: 0xffff},
			guard.Key{DstPort: 9})))
		s.expect(v.name+": ports of any protocol", s.h1, datagram(9), 0, 3)

		// The payload says the ports that pass, and they are not believed.
		s.set(leakguard.Own{}, pass(class(v.lan, v.rem, ports, udp(9))), need(class(v.lan, v.rem, plain)))
		s.expect(v.name+": ports that pass, in the payload only", s.h1, datagram(10), 0, 3)
		s.expect(v.name+": ports that pass", s.h1, datagram(9), 1, 2)
		s.set(leakguard.Own{}, pass(class(v.lan, v.rem, plain)), need(class(v.lan, v.rem, ports, udp(9))))
		s.expect(v.name+": addresses that pass", s.h1, datagram(9), 3, 0)
	}
}

// TestTrackedFragments: with connection tracking a datagram is whole where its ports are
// read.
func TestTrackedFragments(t *testing.T) {
	s := newStage(t)
	s.nft("table inet track { chain c { type filter hook prerouting priority 0; ct state established accept; }; }")
	for _, v := range []struct {
		name         string
		host, remote netip.Addr
		lan, rem     string
	}{{"IPv4", host, remote, "10.1.0.0/24", "10.2.0.0/24"}, {"IPv6", host6, remote6, "fd01::/64", "fd02::/64"}} {
		datagram := func(port uint16) packet {
			return packet{src: v.host, dst: v.remote, proto: unix.IPPROTO_UDP, payload: segment(port, port, 3996)}
		}
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, toPort, guard.Key{Proto: unix.IPPROTO_UDP, DstPort: 9})))
		s.expect(v.name+": other ports", s.h1, datagram(10), 3, 0)
		s.expect(v.name+": ports", s.h1, datagram(9), 0, 1)
	}
}

// TestOwn: with everything required, the gateway's own traffic passes and what is
// forwarded in its guise does not.
func TestOwn(t *testing.T) {
	s := newStage(t)
	everything := need(class("0.0.0.0/0", "0.0.0.0/0", plain), class("::/0", "::/0", plain))
	s.set(leakguard.Own{IKEPorts: []uint16{4501}}, everything)
	for _, v := range []struct {
		name                string
		host, outer, remote netip.Addr
		group               netip.Addr
		neighbour           netip.Addr
		flush               string
	}{
		{"IPv4", host, outer, remote, addr("224.0.0.18"), addr("10.3.0.2"), "neigh flush dev wan0"},
		{"IPv6", host6, outer6, remote6, addr("ff02::12"), addr("fd03::2"), "-6 neigh flush dev wan0"},
	} {
		of := func(src netip.Addr, proto int, payload []byte) packet {
			return packet{src: src, dst: v.remote, proto: proto, payload: payload}
		}
		for _, proto := range []int{unix.IPPROTO_ESP, unix.IPPROTO_AH, 112} {
			s.passes(v.name+": a protocol of the gateway", s.gw, of(v.outer, proto, make([]byte, 40)))
			s.dropsIt(v.name+": the same of a host", s.h1, of(v.host, proto, make([]byte, 40)))
		}
		for _, port := range []uint16{500, 4500, 4501} {
			s.passes(v.name+": a port of IKE", s.gw, of(v.outer, unix.IPPROTO_UDP, segment(port, 9, 8)))
			s.dropsIt(v.name+": the same of a host", s.h1, of(v.host, unix.IPPROTO_UDP, segment(port, 9, 8)))
		}
		s.dropsIt(v.name+": another port", s.gw, of(v.outer, unix.IPPROTO_UDP, segment(4502, 500, 8)))
		s.dropsIt(v.name+": a port of IKE in TCP", s.gw, of(v.outer, unix.IPPROTO_TCP, segment(500, 9, 20)))
		group := of(v.outer, 112, make([]byte, 40))
		group.dst = v.group
		if v.group.Is4() { // for IPv6 the interface would have to be told
			s.passes(v.name+": multicast", s.gw, group)
			group.proto = unix.IPPROTO_UDP
			s.passes(v.name+": multicast of any protocol", s.gw, group)
		}
		// Neighbour discovery: without it nothing would arrive behind this.
		s.gw.Run("ip " + v.flush)
		near := of(v.outer, unix.IPPROTO_UDP, segment(500, 9, 8))
		near.dst = v.neighbour
		s.passes(v.name+": to a neighbour that is forgotten", s.gw, near)
		// The gateway to itself, by the loopback interface.
		if err := s.gw.Ping(v.outer, patience); err != nil {
			t.Error(err)
		}
	}
	for _, to := range []string{"127.0.0.1", "::1"} {
		if err := s.gw.Ping(addr(to), patience); err != nil {
			t.Error(err)
		}
	}
	// The gateway answers who asks for its link-layer address, which is unicast.
	s.h2.Run("ip -6 neigh replace fd03::1 lladdr " + s.wan.MAC.String() + " dev eth0 nud probe")
	lab.Eventually(t, patience, "the gateway to answer a neighbour", func() bool {
		return strings.Contains(s.h2.Run("ip -6 neigh show fd03::1"), "REACHABLE")
	})

	// Pairs of networks: the gateway answers its hosts, and still nothing is forwarded.
	s.set(leakguard.Own{Pass: []leakguard.Pair{
		{Src: prefix("10.1.0.1/32"), Dst: prefix("10.1.0.0/24")}, {Src: prefix("fd01::1/128"), Dst: prefix("fd01::/64")},
		{Dst: prefix("10.3.0.2/32")}, {Src: prefix("fd03::1/128")},
	}}, everything)
	for _, to := range []netip.Addr{inner, inner6} {
		if err := s.h1.Ping(to, patience); err != nil {
			t.Error(err)
		}
	}
	near := packet{src: host, dst: addr("10.3.0.2"), proto: 99, payload: make([]byte, 8)}
	s.passes("any source", s.h1, near)
	s.passes("any destination", s.gw, packet{src: outer6, dst: remote6, proto: 99, payload: make([]byte, 8)})
	s.dropsIt("another destination", s.h1, packet{src: host, dst: remote, proto: 99, payload: make([]byte, 8)})
	s.dropsIt("another source", s.h1, packet{src: host6, dst: remote6, proto: 99, payload: make([]byte, 8)})
}

// TestEarly: what a chain that fills a flowtable would see. A packet that a flowtable
// takes meets no other chain.
func TestEarly(t *testing.T) {
	s := newStage(t)
	s.nft("table inet flows { counter seen { }\nchain c { type filter hook forward priority filter; " +
		"ip daddr 10.2.0.10 counter name seen; }; }")
	for _, own := range []leakguard.Own{{}, {NoEarly: true}} {
		s.set(own, need(class("10.1.0.0/24", "10.2.0.0/24", plain)))
		s.dropsIt("forwarded", s.h1, udpPacket)
		if saw := !strings.Contains(s.gw.Run(nftProgram+" list counter inet flows seen"), "packets 0 "); saw != own.NoEarly {
			t.Errorf("the chain sees packets: %v, with %+v", saw, own)
		}
	}
}

// TestMasquerade: a packet counts by the addresses that it came with, and by those that
// it leaves with.
func TestMasquerade(t *testing.T) {
	s := newStage(t)
	s.nft("table ip nat { chain post { type nat hook postrouting priority srcnat; oifname wan0 masquerade; }; }")
	udp := packet{src: host, dst: remote, proto: unix.IPPROTO_UDP, payload: segment(7, 9, 8)}
	for _, own := range []leakguard.Own{{}, {NoEarly: true}} {
		s.set(own, need(class("10.1.0.0/24", "10.2.0.0/24", plain)))
		s.dropsIt("out of a selector", s.h1, udp)
		s.set(own, need(class("10.3.0.1/32", "10.2.0.0/24", plain)))
		s.dropsIt("into a selector", s.h1, udp)
		s.set(own, need(class("10.1.0.0/24", "10.9.0.0/24", plain)))
		s.passes("no selector", s.h1, udp)
		if from := s.seen.source(udp); from != outer {
			t.Errorf("it leaves from %s and is not masqueraded", from)
		}
	}
}
