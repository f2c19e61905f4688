// Package rules is what sasyncd and carpd put into the routing policy of Linux so that a
// standby is silent and nothing leaves in plaintext: [Fence] silences virtual addresses,
// [Hold] keeps a node that has no policies yet from forwarding, [Guard] one that is about
// to lose them, [Sink] is behind them where they are lost without warning, [Detour] keeps
// a backup reachable, [Sources] gives IKE a source address. [Others] reads what other
// programs have there.
//
// # The fence
//
// In the routing policy (`ip rule`, `ip -6 rule`), all marked "proto 112":
//
//	5: from VIP blackhole                                         closed
//	6: from VIP lookup 112112 suppress_prefixlength 0             the gate, IPv6
//
// Rule 5 makes every route lookup from the address fail: of ESP and IKE, of
// local and of forwarded traffic. Since the IPsec policies are in force, what
// they protect is dropped and does not leave in plaintext. It takes effect with
// the next packet, because changing rules invalidates cached routes.
//
// A master that dies cannot set it. IPv4 needs no more: once the address's
// lease has lapsed, the kernel refuses to route from it. IPv6 has no such check
// and would go on sending ESP from an address that is gone. Hence the gate:
// table 112112 holds, for ever,
//
//	blackhole default metric 4294967295
//
// and while the master renews it every second, at better metrics,
//
//	default dev eth0 expires 2
//
// Rule 6 does not accept a default route but goes on to the next rule: as long
// as the expiring route lives, the node's own routing applies. When it has
// gone, the search finds the blackhole, which is an error and ends it. (An
// expiring "throw" route would say the same more plainly, but the kernel makes
// error routes last for ever.) Routes that sockets have cached survive that;
// they are dropped when the address's lease lapses, by when the gate must be
// closed: renew the fence first, then the leases.
//
// What remains when a daemon dies keeps the node silent, and the next process
// finds it and goes on from there. Rules with a lower preference than 5 would
// come before the fence and must not route from a virtual address.
//
// # The hold
//
// A node that has just booted has no policies. What hosts send it, because they
// still know its MAC or because it is their only gateway, would be forwarded as
// it is, in plaintext. Until the policies are there,
//
//	3: iif eth0 blackhole
//
// in both families makes the kernel drop what comes in by an interface and is not
// for the node itself, without an ICMP error: the local table has preference 0 and
// so comes first. The rule names the interface, which need not exist: the kernel
// keeps it and applies it as soon as there is one of that name. It matches only
// packets that came in: what the node sends itself, and every lookup that the
// kernel makes on its own behalf, has the loopback or no interface there.
//
// # The guard
//
// A program may be about to flush all policies, as the start of an IKE daemon does.
// Before it does, [Guard] writes down where the policies lead, and from then on
// nothing goes there, forwarded or from the node itself:
//
//	4: lookup 112114
//	4: not iif lo blackhole                                       if it must be
//
// Table 112114 has for the destination of each outbound policy with templates
//
//	blackhole DST metric N
//
// where N is how many policies have it. A destination that holds an address of this
// node or multicast, as that of a default route through a tunnel, has "throw" in
// place of "blackhole", for the node must reach its peers and neighbours. Then
// everything that is forwarded is dropped, by the second rule.
//
// The guard can go when each destination has as many policies again. It outlives who
// set it. What the node itself sends to a destination with "throw" is not guarded.
//
// # The sink
//
// Policies may vanish without warning. [Sink] has routes behind them, which send what
// they protect to a device that drops it:
//
//	10+N: from SRC lookup 112200...112263      N: how many bits SRC is shorter than an address
//
// so preferences from 10 to 42, for IPv6 to 138, and the longest source first. The table,
// one for each source of a family, has
//
//	DST dev sasyncd-null
//	throw DST
//
// The device is a dummy. A policy finds its packets first, and they are then routed by
// their outer addresses, where a blackhole in its place would end the lookup before that.
// The longest DST of a table decides. `throw` goes on with the next table and the node's
// own routing.
// The rules are for what the node itself sends too. They stand behind those of the fence,
// the detour and IKE's source addresses.
//
// # A backup's own addresses inside
//
// A backup has the policies of the tunnels in force, so traffic between the
// remote network and its own address inside a protected network would be
// dropped: it has no SA that it may use. Two policies per such address, without
// template and of priority 0, let it pass:
//
//	dir in  src any dst OWN      dir out  src OWN dst any
//
// There is no `fwd`: what is forwarded is not the node's own. The policies have
// no interface, because that would not do what it seems to: in `in` policies it
// is compared with the loopback interface whatever interface a packet came in
// on, and in `out` policies it matches neither IPv6 nor ICMP errors. What keeps
// protected traffic from leaving outside in plaintext is routing:
//
//	7: from OWN lookup 112000000+ifindex
//	8: from OWN blackhole
//
// with, in that table, the address's link and a default route via the inside
// virtual address, which is the master, who encrypts. So everything from that
// address leaves by its own link or not at all. Order: [Detour.Set], then
// [xfrm.BypassOps]; at promotion BypassOps with nothing, then Detour.Set with
// nothing. While it is a backup a node accepts plaintext for these addresses
// from anywhere, as a host does; use a packet filter where that matters. With
// strict reverse path filtering, packets that come in outside are dropped.
package rules
