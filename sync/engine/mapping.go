package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// A remote end behind a NAT may come from another port or address from one
// packet to the next (RFC 7296 section 2.23). The kernel tells when an
// authentic packet did, and it is for the IKE daemon to follow. Of what was
// imported the new master's daemon knows nothing yet, so until it has
// negotiated SAs of its own the master follows here, and the change is
// published like any other.
//
// All SAs of one remote end share one UDP flow, so the packet of one of them
// tells where all of them have gone, both ways. Another port is a change in
// place. With another address the inbound SAs, the outbound SAs, of whose
// identity it is a part, and the policies' templates are made anew.

// mappingDelay is how long an IKE daemon has to follow by itself; whoever does
// it, the result is the same.
const mappingDelay = 200 * time.Millisecond

// mappingJump is the share of the margin by which an outbound SA that is made
// anew starts above the counter that was read: what was sent between reading
// and replacing is less, and the standbys' lead over this node stays.
const mappingJump = 16

// mapping is where an inbound SA's packets come from since.
type mapping struct {
	to    netip.AddrPort
	since time.Time
}

// flow is a UDP flow that carries ESP, as seen from here.
type flow struct{ local, remote netip.AddrPort }

// flowOf returns the flow of an SA, with the remote end as the SA has it.
func flowOf(sa *sadb.SA) flow {
	if sa.Dir == sadb.DirIn {
		return flow{netip.AddrPortFrom(sa.Key.Dst, sa.Encap.DstPort), netip.AddrPortFrom(sa.Src, sa.Encap.SrcPort)}
	}
	return flow{netip.AddrPortFrom(sa.Src, sa.Encap.SrcPort), netip.AddrPortFrom(sa.Key.Dst, sa.Encap.DstPort)}
}

// noteMapping takes the kernel's word. It comes with every packet until the SA
// is changed. An IKE daemon that replicates SAs itself knows them all, and
// follows itself.
func (g *group) noteMapping(now time.Time, ev sadb.Event) {
	if g.countersOnly || ev.SA == nil || ev.Encap == nil || !g.own.scope.Owns(ev.SA) || ev.Encap.SrcPort == 0 ||
		ev.SA.Src.Is4() != ev.SA.Key.Dst.Is4() || ev.SA.Src.IsUnspecified() {
		return
	}
	to := netip.AddrPortFrom(ev.SA.Src, ev.Encap.SrcPort)
	if old, ok := g.mapped[ev.SA.Key]; ok && old.to == to {
		return
	}
	if g.mapped == nil {
		g.mapped = make(map[sadb.SAKey]mapping)
	}
	g.mapped[ev.SA.Key] = mapping{to, now}
}

// followMappings moves the imported SAs of those remote ends that have moved,
// unless the IKE daemon has done so.
func (e *Engine) followMappings(ctx context.Context, g *group, now time.Time) {
	moves := make(map[flow]netip.AddrPort)
	for k, m := range g.mapped {
		if now.Sub(m.since) < mappingDelay {
			continue
		}
		delete(g.mapped, k)
		if sa := g.pub.Named(k); sa != nil && carried(sa) && sa.Dir == sadb.DirIn && e.imports(g, sa) {
			if f := flowOf(sa); f.remote != m.to {
				moves[f] = m.to
			}
		}
	}
	if len(moves) == 0 {
		return
	}
	snap, err := e.dumpNow(ctx)
	if err != nil {
		e.log.Error("reading the counters of SAs behind a NAT failed", "group", g.name, "err", err)
		return
	}
	ops, gone := e.moveOps(g, g.pick(snap), moves)
	e.execOwn(ctx, g, ops, func(i int, err error) {
		if err != nil && ops[i].Kind == sadb.OpAddSA && ops[i].SA.Dir == sadb.DirIn && i > 0 {
			// What was there is better than nothing.
			if err := e.apply(ctx, []sadb.Op{{Kind: sadb.OpAddSA, SA: ops[i-1].SA}})[0]; err != nil {
				e.kernelError(g, ops[i-1], err)
			}
		}
	})
	for f, to := range moves {
		e.log.Info("a remote end comes from elsewhere, its SAs follow", "group", g.name, "from", f.remote.String(), "to", to.String())
	}
	e.stats.Mappings += uint64(len(moves))
	if snap, err = e.dumpNow(ctx); err != nil {
		e.requestDump(ctx) // that publishes as well
		return
	}
	e.publishDump(g, g.pick(snap))
	for i := range ops {
		if ops[i].Kind != sadb.OpAddSA {
			continue
		}
		g.pub.TakeSA(now, ops[i].SA.Key) // it is what it was under its other identity
	}
	// What was moved to another identity is not gone, so nothing is held back.
	for _, k := range gone {
		g.holds.CancelSA(k)
		if r, ok := g.pub.DeleteSA(now, k); ok {
			e.publish(g, []wire.Record{r})
		}
	}
}

// imports reports whether an SA was received from another master: it bears
// sasyncd's tag, or this node had negotiated it itself in an earlier mastership
// and kept it as a standby. The IKE daemon does not know the latter any more.
func (e *Engine) imports(g *group, sa *sadb.SA) bool {
	return g.rcv.WasHeld(sa.Key) || e.cfg.Imported != nil && e.cfg.Imported(sa)
}

// carried reports whether an SA is in UDP. TCP (RFC 9329) has a connection of
// its own, which does not follow.
func carried(sa *sadb.SA) bool {
	const espInTCP = 7
	return sa.Encap != nil && sa.Encap.Type != espInTCP
}

// moveOps returns the operations that move the imported SAs of flows and the
// policies above them, and the identities of which nothing stays. Policies with
// an SA of the IKE daemon's own below are its business. The order is such that
// there is always an SA to send on.
func (e *Engine) moveOps(g *group, snap *sadb.Snapshot, moves map[flow]netip.AddrPort) (ops []sadb.Op, gone []sadb.SAKey) {
	var last []sadb.Op
	tunnels := make(map[tunnelEnds]netip.Addr) // their new remote ends
	theirs := make(map[tunnelEnds]bool)        // what the IKE daemon has SAs for
	for _, sa := range replica.OldestFirst(snap.SAs, func(sa *sadb.SA) uint64 { return sa.Age }) {
		if !e.imports(g, sa) {
			theirs[endsOf(sa)] = true
			continue
		}
		if !carried(sa) {
			continue
		}
		f := flowOf(sa)
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
		if to.Addr() == f.remote.Addr() {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: &c})
			continue
		}
		if sa.Mode != sadb.ModeTunnel {
			// The address is in the selectors too, which the remote end has to agree to.
			e.log.Warn("an SA in transport mode cannot follow to another address; rekey it", "group", g.name, "sa", sa.Key.String())
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
		lead, _ := e.cfg.Margin.Lead(sa.ESN(), 0, 0)
		var fits bool
		if c.OSeq, fits = sadb.Ahead(sa.ESN(), sa.OSeq, lead/mappingJump); !fits {
			e.log.Warn("an SA has no numbers left to follow its remote end with; rekey it", "group", g.name, "sa", sa.Key.String())
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
	return append(ops, last...), gone
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
