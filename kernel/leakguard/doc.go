// Package leakguard keeps the nftables table `inet sasyncd` equal to a guard.Program: it
// drops what should have left encrypted and has no SA.
//
//	chain early       forward, filter - 10       before a flowtable takes the packet
//	chain before-nat  postrouting, srcnat - 1    by the addresses that the packet came with
//	chain after-nat   postrouting, srcnat + 1    by those that it leaves with
//	  └─ chain wall         what has an SA returns, and what of the gateway needs none
//	       ├─ chain ipv4          the layers of the program
//	       ├─ chain ipv4-later    the same, for fragments other than the first
//	       ├─ chain ipv4-quoted   the same, for the packet that an ICMP error quotes
//	       └─ chains ipv6...      the same
//
// Each class of a layer is one hash set without intervals and one rule: the rule loads
// the fields of the shape, masks them and looks them up. Ports are compared for one
// protocol at a time, so a set has at most the five fields that nft(8) can print. The
// counter `dropped` counts all drops.
//
// # Fragments
//
// A fragment other than the first has no transport header. Only the chains for whole
// packets and first fragments read ports, and types of ICMP. Behind them a class with
// ports in a layer that requires IPsec has such a fragment by its addresses, protocol and
// mark alone, so fragments of other ports between these addresses are dropped too. In a
// layer that passes it has none. With connection tracking, which puts datagrams together
// before the chains, neither happens. An IPv6 fragment that continues with a further
// extension header has no protocol that the kernel tells, and no class that compares one.
//
// # ICMP errors
//
// An error quotes a packet. A gateway that cannot deliver what came out of a tunnel tells
// the sender, from an address that no policy may have, and quotes it in plaintext. So an
// error that no layer has is judged by what it quotes, turned round: the answer to that
// packet would have needed an SA. The quoted packet counts as a later fragment does, and
// has no mark. An IPv6 packet with extension headers has no protocol there. Of a class
// with more than 256 sources that requires IPsec every error to its destinations counts.
//
// # What passes without an SA
//
// What leaves by the loopback, xfrm or vti interface comes again or is encrypted there.
// ESP, AH, IKE and the protocol of elections pass from a local address: the first two are
// what IPsec has made of a packet. Multicast and neighbour discovery do not leave the
// link. [Own] has what else the gateway needs.
//
// # Changes
//
// A change replaces the whole table in one transaction, so packets meet the old table or
// the new one. Elements are never deleted, which would take longer than to make all
// anew. The new counter starts where the old one stood. What the old table drops while
// the kernel carries the transaction out, some 20 ms for 10,000 selectors, is not counted.
package leakguard
