package engine

import (
	"context"
	"net/netip"
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

// mapping is where an inbound SA's packets come from since.
type mapping struct {
	to    netip.AddrPort
	since time.Time
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
	moves := make(map[replica.Flow]netip.AddrPort)
	for k, m := range g.mapped {
		if now.Sub(m.since) < mappingDelay {
			continue
		}
		delete(g.mapped, k)
		if sa := g.pub.Named(k); sa != nil && replica.Carried(sa) && sa.Dir == sadb.DirIn && e.imports(g, sa) {
			if f := replica.FlowOf(sa); f.Remote != m.to {
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
	ops, gone, stuck := replica.MoveOps(g.pick(snap), moves, e.cfg.Margin,
		func(sa *sadb.SA) bool { return e.imports(g, sa) })
	for _, x := range stuck {
		e.log.Warn(x.Why, "group", g.name, "sa", x.Key.String())
	}
	e.execOwn(ctx, g, ops, func(i int, err error) {
		if err != nil && ops[i].Kind == sadb.OpAddSA && ops[i].SA.Dir == sadb.DirIn && i > 0 {
			// What was there is better than nothing.
			if err := e.apply(ctx, []sadb.Op{{Kind: sadb.OpAddSA, SA: ops[i-1].SA}})[0]; err != nil {
				e.kernelError(g, ops[i-1], err)
			}
		}
	})
	for f, to := range moves {
		e.log.Info("a remote end comes from elsewhere, its SAs follow", "group", g.name, "from", f.Remote.String(),
			"to", to.String())
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
