package replica

import (
	"net/netip"
	"slices"

	"sasyncd/sync/sadb"
)

// mappingJump is the share of the margin by which an outbound SA that is made
// anew starts above the counter that was read: what was sent between reading
// and replacing is less, and the standbys' lead over this node stays.
const mappingJump = 16

// Flow is a UDP flow that carries ESP, as seen from here.
type Flow struct{ Local, Remote netip.AddrPort }

// FlowOf returns the flow of an SA, with the remote end as the SA has it.
func FlowOf(sa *sadb.SA) Flow {
	if sa.Dir == sadb.DirIn {
		return Flow{netip.AddrPortFrom(sa.Key.Dst, sa.Encap.DstPort), netip.AddrPortFrom(sa.Src, sa.Encap.SrcPort)}
	}
	return Flow{netip.AddrPortFrom(sa.Src, sa.Encap.SrcPort), netip.AddrPortFrom(sa.Key.Dst, sa.Encap.DstPort)}
}

// Carried reports whether an SA is in UDP. TCP (RFC 9329) has a connection of
// its own, which does not follow.
func Carried(sa *sadb.SA) bool {
	const espInTCP = 7
	return sa.Encap != nil && sa.Encap.Type != espInTCP
}

// Stuck is an SA that cannot follow its remote end, and why.
type Stuck struct {
	Key sadb.SAKey
	Why string
}

// MoveOps returns the operations that move the imported SAs of flows and the policies
// above them, the identities of which nothing stays, and the SAs that cannot follow. Policies with
// an SA of the IKE daemon's own below are its business. The order is such that
// there is always an SA to send on.
func MoveOps(snap *sadb.Snapshot, moves map[Flow]netip.AddrPort, m sadb.Margin,
	imported func(*sadb.SA) bool) (ops []sadb.Op, gone []sadb.SAKey, stuck []Stuck) {
	var last []sadb.Op
	tunnels := make(map[tunnelEnds]netip.Addr) // their new remote ends
	theirs := make(map[tunnelEnds]bool)        // what the IKE daemon has SAs for
	for _, sa := range OldestFirst(snap.SAs, func(sa *sadb.SA) uint64 { return sa.Age }) {
		if !imported(sa) {
			theirs[endsOf(sa)] = true
			continue
		}
		if !Carried(sa) {
			continue
		}
		f := FlowOf(sa)
		to, moved := moves[f]
		if !moved {
			continue
		}
		c, encap := *sa, *sa.Encap
		c.Encap = &encap
		if sa.Dir == sadb.DirIn {
			encap.SrcPort = to.Port()
		} else {
			encap.DstPort = to.Port()
		}
		if to.Addr() == f.Remote.Addr() {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: &c})
			continue
		}
		if sa.Mode != sadb.ModeTunnel {
			// The address is in the selectors too, which the remote end has to agree to.
			stuck = append(stuck, Stuck{sa.Key, "an SA in transport mode cannot follow to another address; rekey it"})
			continue
		}
		tunnels[endsOf(sa)] = to.Addr()
		old := sadb.Op{Kind: sadb.OpDeleteSA, SA: sa}
		if sa.Dir == sadb.DirIn {
			c.Src = to.Addr()
			ops = append(ops, old, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
			continue
		}
		c.Key.Dst = to.Addr()
		lead, _ := m.Lead(sa.ESN(), 0, 0)
		var fits bool
		if c.OSeq, fits = sadb.Ahead(sa.ESN(), sa.OSeq, lead/mappingJump); !fits {
			stuck = append(stuck, Stuck{sa.Key, "an SA has no numbers left to follow its remote end with; rekey it"})
			continue
		}
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: &c})
		last, gone = append(last, old), append(gone, sa.Key)
	}
	for _, p := range snap.Policies {
		c, changed := *p, false
		c.Templates = slices.Clone(p.Templates)
		for i := range c.Templates {
			t := &c.Templates[i]
			out, in := tunnelEnds{t.Src, t.Dst, t.Reqid}, tunnelEnds{t.Dst, t.Src, t.Reqid}
			if t.Mode != sadb.ModeTunnel {
				continue
			}
			if to, ok := tunnels[out]; ok && !theirs[out] {
				t.Dst, changed = to, true
			} else if to, ok := tunnels[in]; ok && !theirs[in] {
				t.Src, changed = to, true
			}
		}
		if changed {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &c})
		}
	}
	return append(ops, last...), gone, stuck
}

// tunnelEnds is what ties an SA to the templates of its policies.
type tunnelEnds struct {
	local, remote netip.Addr
	reqid         uint32
}

func endsOf(sa *sadb.SA) tunnelEnds {
	if sa.Dir == sadb.DirIn {
		return tunnelEnds{sa.Key.Dst, sa.Src, sa.Reqid}
	}
	return tunnelEnds{sa.Src, sa.Key.Dst, sa.Reqid}
}
