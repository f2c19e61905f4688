package xfrm

import (
	"net/netip"
	"slices"

	"sasyncd/kernel/link"
	"sasyncd/sync/sadb"
)

// Own is one of a node's own addresses inside a protected network, and how it
// reaches everything beyond its link while the node is a backup.
type Own struct {
	Prefix netip.Prefix // the address, and the length of what is on its link
	Link   int          // index of the interface that has it
	Via    netip.Addr   // the virtual address of the same network
}

// FindOwn returns the addresses that need a bypass: those that are no virtual
// address, lie in the local selector of an outbound policy with a template, and
// have one of vips in their network. A virtual address that tunnels end on is
// outside and does not count.
func FindOwn(addrs []link.Address, vips []netip.Addr, policies []*sadb.Policy) (list []Own) {
	virtual, ends := make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	for _, vip := range vips {
		virtual[vip] = true
	}
	for _, p := range policies {
		for _, t := range p.Templates {
			if p.Key.Dir == sadb.DirOut && t.Mode != sadb.ModeTransport {
				ends[t.Src] = true
			}
		}
	}
	for _, a := range addrs {
		own := a.Prefix.Addr()
		if virtual[own] || a.Loopback || own.IsLinkLocalUnicast() || !inTunnel(policies, own) {
			continue
		}
		for _, vip := range vips {
			if !ends[vip] && a.Prefix.Contains(vip) {
				list = append(list, Own{Prefix: a.Prefix, Link: a.Link, Via: vip})
				break
			}
		}
	}
	return list
}

func inTunnel(policies []*sadb.Policy, own netip.Addr) bool {
	for _, p := range policies {
		if p.Key.Dir == sadb.DirOut && covers(p, own) {
			return true
		}
	}
	return false
}

// covers reports whether a policy of a tunnel or transport is about traffic
// from or to the node's address.
func covers(p *sadb.Policy, own netip.Addr) bool {
	if p.Socket || p.Key.Sub || len(p.Templates) == 0 {
		return false
	}
	local, ok := p.Key.Selector.DstPrefix()
	if p.Key.Dir == sadb.DirOut {
		local, ok = p.Key.Selector.SrcPrefix()
	}
	return ok && local.Contains(own)
}

// IsBypass reports whether p is a bypass policy of ours.
func IsBypass(p *sadb.Policy) bool { return p.Index&tagMask == tagBypass && len(p.Templates) == 0 }

// BypassOps returns what turns the policies of the kernel (as dumped: newest
// first) into ones with bypass policies for own, two for each, and for nothing
// else. With no own it removes them. It is empty when nothing is to be done.
//
// Of policies with equal priority the kernel takes the older. The bypass has
// priority 0, the strongest, but so have policies that were made without any
// thought of priorities; such a one that is older is put behind the bypass by
// updating it to priority 1 and back. (An update that keeps the priority keeps
// the place, and deleting would leave a moment without policy.)
func BypassOps(own []Own, policies []*sadb.Policy) (ops []sadb.Op) {
	want := make(map[sadb.PolicyKey]bool)
	for _, o := range own {
		want[bypassKey(sadb.DirIn, o)], want[bypassKey(sadb.DirOut, o)] = true, true
	}
	age := make(map[sadb.PolicyKey]int) // how many policies are younger
	used := make(map[uint32]bool)
	for i, p := range policies {
		used[p.Index] = true
		switch {
		case !IsBypass(p):
		case want[p.Key]:
			age[p.Key] = i
		default:
			ops = append(ops, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: p})
		}
	}
	again := make(map[*sadb.Policy]bool)
	for _, o := range own {
		for _, dir := range []sadb.Direction{sadb.DirIn, sadb.DirOut} {
			key := bypassKey(dir, o)
			at, ok := age[key]
			if !ok {
				at = -1 // younger than all
				ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: bypassPolicy(key, used)})
			}
			for _, p := range policies[at+1:] {
				if p.Priority == 0 && p.Key.Dir == dir && covers(p, o.Prefix.Addr()) {
					again[p] = true
				}
			}
		}
	}
	// Oldest first, so that the order among them stays.
	for _, p := range slices.Backward(policies) {
		if again[p] {
			weaker := *p
			weaker.Priority = 1
			ops = append(ops,
				sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &weaker},
				sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: p})
		}
	}
	return ops
}

// bypassKey is `dir out src OWN dst any` or `dir in src any dst OWN`. An
// interface would not help: in an `in` policy it is compared with the loopback,
// and an `out` policy with one misses all IPv6 and all ICMP errors.
func bypassKey(dir sadb.Direction, o Own) sadb.PolicyKey {
	addr := o.Prefix.Addr()
	anything, host := netip.PrefixFrom(addr, 0).Masked(), netip.PrefixFrom(addr, addr.BitLen())
	if dir == sadb.DirOut {
		return sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(host, anything)}
	}
	return sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(anything, host)}
}

func bypassPolicy(key sadb.PolicyKey, used map[uint32]bool) *sadb.Policy {
	index := uint32(tagBypass) | uint32(key.Dir-sadb.DirIn)
	for used[index] {
		index += 1 << 3
	}
	used[index] = true
	return &sadb.Policy{
		Key: key, Index: index, Action: sadb.ActionAllow,
		Limits: sadb.Limits{
			SoftBytes: sadb.NoLimit, HardBytes: sadb.NoLimit,
			SoftPackets: sadb.NoLimit, HardPackets: sadb.NoLimit,
		},
	}
}
