package leakguard_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/tests/harness/lab"
)

// quote is an ICMP error about a packet of a protocol, of which it has the header and
// ports 7 and 9.
func quote(kind byte, from, to netip.Addr, proto byte) []byte {
	var header []byte
	if from.Is4() {
		header = make([]byte, 20)
		header[0], header[8], header[9] = 0x45, 1, proto
		copy(header[12:], from.AsSlice())
		copy(header[16:], to.AsSlice())
	} else {
		header = make([]byte, 40)
		header[0], header[6], header[7] = 0x60, proto, 1
		copy(header[8:], from.AsSlice())
		copy(header[24:], to.AsSlice())
	}
	return append(append(message(kind, 0), header...), segment(7, 9, 4)...)
}

// TestQuotedPackets: an ICMP error leaves unless what it quotes came out of a tunnel.
func TestQuotedPackets(t *testing.T) {
	s := newStage(t)
	for _, v := range []struct {
		name                       string
		host, outer, remote        netip.Addr
		lan, rem, one, self, other string
		icmp                       int
		echo                       byte
		errors                     []byte
	}{
		{"IPv4", host, outer, remote, "10.1.0.0/24", "10.2.0.0/24", "10.1.0.10/32", "10.3.0.1/32", "10.1.1.0/24",
			unix.IPPROTO_ICMP, 8, []byte{3, 4, 5, 11, 12}},
		{"IPv6", host6, outer6, remote6, "fd01::/64", "fd02::/64", "fd01::10/128", "fd03::1/128", "fd01:0:0:1::/64",
			unix.IPPROTO_ICMPV6, 128, []byte{1, 2, 3, 4}},
	} {
		about := func(from, to netip.Addr, proto byte) packet {
			return packet{src: v.outer, dst: v.remote, proto: v.icmp, payload: quote(v.errors[0], from, to, proto)}
		}
		udp := about(v.remote, v.host, unix.IPPROTO_UDP)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, plain)))
		for _, kind := range v.errors {
			p := udp
			p.payload = quote(kind, v.remote, v.host, unix.IPPROTO_UDP)
			s.dropsIt(v.name+": an error", s.gw, p)
		}
		p := udp
		p.payload = quote(v.echo, v.remote, v.host, unix.IPPROTO_UDP)
		s.passes(v.name+": a ping that looks like it", s.gw, p)
		s.passes(v.name+": about what a host sent", s.gw, about(v.host, v.remote, unix.IPPROTO_UDP))
		s.set(leakguard.Own{}, need(class(v.other, v.rem, plain)))
		s.passes(v.name+": about other addresses", s.gw, udp)
		s.set(leakguard.Own{}, pass(class(v.self, v.rem, plain)), need(class(v.lan, v.rem, plain)))
		s.passes(v.name+": an error that a bypass has", s.gw, udp)
		s.set(leakguard.Own{}, pass(class(v.one, v.rem, plain)), need(class(v.lan, v.rem, plain)))
		s.passes(v.name+": about a packet whose answer a bypass has", s.gw, udp)

		s.set(leakguard.Own{}, need(class(v.lan, v.rem, protocol, guard.Key{Proto: unix.IPPROTO_UDP})))
		s.dropsIt(v.name+": about the protocol", s.gw, udp)
		s.passes(v.name+": about another protocol", s.gw, about(v.remote, v.host, unix.IPPROTO_TCP))
		ports := need(class(v.lan, v.rem, toPort, guard.Key{Proto: unix.IPPROTO_UDP, DstPort: 53}))
		s.set(leakguard.Own{}, ports)
		s.dropsIt(v.name+": about the protocol of a port", s.gw, udp)
		s.passes(v.name+": about the port's other protocol", s.gw, about(v.remote, v.host, unix.IPPROTO_TCP))
		s.set(leakguard.Own{}, pass(class(v.lan, v.rem, toPort, guard.Key{Proto: unix.IPPROTO_UDP, DstPort: 7})),
			need(class(v.lan, v.rem, plain)))
		s.dropsIt(v.name+": about a port that passes", s.gw, udp)
		s.set(leakguard.Own{}, need(class(v.lan, v.rem, guard.Shape{Ports: guard.TransportPorts, DstPortMask: 0xffff},
			guard.Key{DstPort: 53})))
		s.dropsIt(v.name+": about a port of any protocol", s.gw, udp)
		s.passes(v.name+": about a protocol without ports", s.gw, about(v.remote, v.host, 99))

		s.set(leakguard.Own{}, need(class(v.lan, v.rem, marked, guard.Key{Mark: 0x2a})))
		s.dropsIt(v.name+": about what may have had the mark", s.gw, udp)
		s.set(leakguard.Own{}, pass(class(v.lan, v.rem, marked, guard.Key{Mark: 0x2a})), need(class(v.lan, v.rem, plain)))
		s.dropsIt(v.name+": about what may have lacked the mark", s.gw, udp)
	}
}

// TestErrorsOfTheKernel: what a gateway says of a packet that it cannot deliver.
func TestErrorsOfTheKernel(t *testing.T) {
	s := newStage(t)
	s.h2.Run(nftProgram + " delete table inet mute")
	// What h2 sends does not get beyond the gateway.
	s.h2.Sysctl("net/ipv4/ip_default_ttl=1", "net/ipv6/conf/eth0/hop_limit=1")
	for _, v := range []struct {
		name            string
		host, remote    netip.Addr
		lan, rem, other string
		icmp            int
	}{
		{"IPv4", host, remote, "10.1.0.0/24", "10.2.0.0/24", "10.1.1.0/24", unix.IPPROTO_ICMP},
		{"IPv6", host6, remote6, "fd01::/64", "fd02::/64", "fd01:0:0:1::/64", unix.IPPROTO_ICMPV6},
	} {
		sent := packet{src: v.remote, dst: v.host, proto: unix.IPPROTO_UDP, payload: segment(7, 9, 4)}
		told := packet{dst: v.remote, proto: v.icmp}
		for _, c := range []struct {
			what, lan string
			dropped   int
		}{{"of the tunnel", v.lan, 1}, {"of no tunnel", v.other, 0}} {
			s.set(leakguard.Own{}, need(class(c.lan, v.rem, plain)))
			drops, seen := s.drops(), s.seen.count(told)
			if err := send(s.h2, sent, 1); err != nil {
				t.Fatal(err)
			}
			var lost, arrived int
			lab.Eventually(t, patience, v.name+": the gateway to tell", func() bool {
				lost, arrived = s.drops()-drops, s.seen.count(told)-seen
				return lost+arrived > 0
			})
			if lost != c.dropped || arrived != 1-c.dropped {
				t.Errorf("%s, %s: %d errors dropped, %d sent", v.name, c.what, lost, arrived)
			}
		}
	}
}
