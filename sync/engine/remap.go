package engine

import (
	"context"
	"net/netip"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// A remote behind NAT whose mapping changes is heard from another address or
// port. The kernel tells, and leaves the rest to the IKE daemon, which knows
// nothing of replicated SAs: for those a master does it.

// remapEvery limits how often one SA is remapped; the kernel tells with every
// packet until it is.
const remapEvery = time.Second

// remap returns what makes the replicated SAs and the policies of a tunnel point
// to where its remote is now, if ev says so of one of them, and what of it was
// there before.
func (p *publisher) remap(now time.Time, m sadb.Margin, ev sadb.Event) (ops []sadb.Op, gone []sadb.SAKey) {
	e := p.sas[ev.SA.Key]
	if e == nil || !e.imported || e.sa.Encap == nil || ev.Encap == nil || sadb.FamilyOf(ev.SA.Src) != sadb.FamilyOf(ev.SA.Key.Dst) ||
		e.sa.Src == ev.SA.Src && e.sa.Encap.SrcPort == ev.Encap.SrcPort || now.Sub(e.remapped) < remapEvery {
		return nil, nil
	}
	e.remapped = now
	vip, from, to := e.sa.Key.Dst, e.sa.Src, ev.SA.Src
	port := e.sa.Encap.SrcPort
	again := func(old *sadb.SA, change func(sa *sadb.SA, encap *sadb.Encap)) {
		sa, encap := *old, *old.Encap
		sa.Bitmap = nil // the whole window counts as seen
		change(&sa, &encap)
		sa.Encap = &encap
		gone = append(gone, old.Key)
		ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: old.Key}}, sadb.Op{Kind: sadb.OpAddSA, SA: &sa})
	}
	e.age(now)
	again(e.sa, func(sa *sadb.SA, encap *sadb.Encap) { sa.Src, encap.SrcPort = to, ev.Encap.SrcPort })
	for _, o := range p.sas {
		if !o.imported || o.sa.Encap == nil || o.sa.Dir == sadb.DirIn || o.sa.Src != vip || o.sa.Key.Dst != from ||
			o.sa.Encap.DstPort != port || o.sa.Reqid != e.sa.Reqid || o.sa.IfID != e.sa.IfID {
			continue
		}
		lead, _ := m.Lead(o.sa.ESN(), 0, 0)
		// The last reading is up to an interval old.
		if v, covered := sadb.Ahead(o.sa.ESN(), o.sa.OSeq, lead); covered {
			o.age(now)
			again(o.sa, func(sa *sadb.SA, encap *sadb.Encap) {
				sa.Key.Dst, encap.DstPort, sa.OSeq = to, ev.Encap.SrcPort, v
			})
		}
	}
	if from == to {
		return ops, gone
	}
	for _, pol := range p.policies {
		if changed := retarget(pol.policy, vip, from, to, e.sa.Reqid); changed != nil {
			ops = append(ops, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: changed})
		}
	}
	return ops, gone
}

// retarget returns the policy with the templates of a tunnel between vip and
// from leading to another remote address; nil if it has none.
func retarget(p *sadb.Policy, vip, from, to netip.Addr, reqid uint32) *sadb.Policy {
	c := *p
	c.Templates = append([]sadb.Template(nil), p.Templates...)
	found := false
	for i := range c.Templates {
		t := &c.Templates[i]
		switch {
		case t.Reqid != reqid:
		case t.Src == vip && t.Dst == from:
			t.Dst, found = to, true
		case t.Src == from && t.Dst == vip:
			t.Src, found = to, true
		}
	}
	if !found {
		return nil
	}
	return &c
}

// mapped follows a change of a remote's NAT mapping.
func (e *Engine) mapped(ctx context.Context, g *group, now time.Time, ev sadb.Event) {
	ops, gone := g.pub.remap(now, e.cfg.Margin, ev)
	if len(ops) == 0 {
		return
	}
	var recs []wire.Record
	note := func(r wire.Record, ok bool) {
		if ok {
			recs = append(recs, r)
		}
	}
	errs := e.kernel.Apply(ctx, ops)
	for i, op := range ops {
		g.touch(op)
		if errs[i] != nil {
			e.kernelError(g, op, errs[i])
			continue
		}
		switch op.Kind {
		case sadb.OpAddSA:
			note(g.pub.putSA(now, op.SA))
			g.pub.take(now, g.pub.sas[op.SA.Key])
		case sadb.OpUpdatePolicy:
			note(g.pub.putPolicy(now, op.Policy))
		}
	}
	for _, k := range gone {
		if p := g.pub.sas[k]; p != nil && k.Dst != ev.SA.Key.Dst && k.Dst != ev.SA.Src {
			note(g.pub.deleteSA(now, k))
		}
	}
	e.log.Info("a remote's NAT mapping has changed", "group", g.name, "sa", ev.SA.Key.String(), "address", ev.SA.Src, "port", ev.Encap.SrcPort)
	e.publish(g, recs)
}
