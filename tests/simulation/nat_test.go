package simulation

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

const natPort = 61000

// TestNAT plays histories in which remote ends behind NATs come from other ports
// and addresses. A master follows with what it has imported and leaves alone
// what its own IKE daemon has negotiated; no number is sent twice, nothing is
// refused, and the standbys hold the same.
func TestNAT(t *testing.T) {
	for i := range min(*histories, 10) {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, seed, 2+int(seed%2), (*sim).nats)
		})
	}
}

func (s *sim) nats() {
	s.nat = true
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	s.pass(3 * time.Second)
	imported, own := 0, 0
	for range 12 {
		if s.t.Failed() {
			return
		}
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		switch s.rng.IntN(5) {
		case 0:
			s.rekey()
			s.pass(2 * time.Second)
		case 1:
			s.note("sasyncd of node %d restarts", n.i)
			n.killSasyncd()
			n.startSasyncd()
		case 2:
			s.note("node %d loses its power", n.i)
			n.powerCut()
			s.pass(4 * time.Second)
			n.startCarpd()
			n.startSasyncd()
		default:
			if m := s.master(); m != nil {
				s.note("node %d hands over", m.i)
				m.Resign("", "operator")
			}
		}
		s.pass(8 * time.Second)
		m, id, t := s.pick()
		if m == nil {
			continue
		}
		if s.rebind(m, id, t) {
			imported++
		} else {
			own++
		}
	}
	s.quiet()
	if imported == 0 {
		s.t.Errorf("seed %d: nothing imported has moved", s.seed)
	}
	s.note("%d imported tunnels moved, %d of the IKE daemon", imported, own)
}

// rebind has a remote end come from elsewhere and checks who follows: sasyncd
// with what it has imported, the IKE daemon with what is its own.
func (s *sim) rebind(m *node, id int, t *tunnel) (imported bool) {
	before := config(m)
	tagged := false
	snap, _ := m.kernel.Dump(s.t.Context())
	for _, sa := range snap.SAs {
		tagged = tagged || sa.Key == t.in.Key && xfrm.IsOurs(sa.Tag)
	}
	imported = tagged || m.inherited && t.made != s.masterships
	to := netip.AddrPortFrom(t.from.Addr(), uint16(10000+s.rng.IntN(50000)))
	if s.rng.IntN(2) == 0 {
		b := to.Addr().AsSlice()
		b[len(b)-2]++ // of no other tunnel
		a, _ := netip.AddrFromSlice(b)
		to = netip.AddrPortFrom(a, to.Port())
	}
	s.note("tunnel %d comes from %v, imported %v", id, to, imported)
	ops := t.move(to)
	s.pass(2 * time.Second)
	if s.master() != m {
		return imported // the election has other things to do
	}
	if !imported {
		if got := config(m); got != before {
			s.t.Errorf("I2: seed %d: node %d has changed what its IKE daemon has negotiated:\n%s\nwas\n%s", s.seed, m.i,
				got, before)
		}
		s.apply(m, s.counted(m, t, ops)...)
	} else if _, ok := m.kernel.Send(t.out.Key, 1); !ok || !s.holds(m, t) {
		s.t.Errorf("seed %d: node %d has not followed tunnel %d to %v:\n%s", s.seed, m.i, id, to, config(m))
	} else if d, err := m.engine.Diff(s.t.Context()); err != nil || len(d) != 0 {
		s.t.Errorf("seed %d: node %d has not published the move: %v %v", s.seed, m.i, d, err)
	}
	s.pass(time.Second)
	return imported
}

// move notes that a remote end is elsewhere, and returns what an IKE daemon
// does that follows.
func (t *tunnel) move(to netip.AddrPort) (ops []sadb.Op) {
	in, out, was := *t.in, *t.out, *t.out
	inEncap, outEncap := *in.Encap, *out.Encap
	inEncap.SrcPort, outEncap.DstPort = to.Port(), to.Port()
	in.Encap, out.Encap, in.Src, out.Key.Dst = &inEncap, &outEncap, to.Addr(), to.Addr()
	if to.Addr() == t.from.Addr() {
		ops = append(ops, sadb.Op{Kind: sadb.OpUpdateSA, SA: &in}, sadb.Op{Kind: sadb.OpUpdateSA, SA: &out})
	} else {
		next := out
		ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: t.in}, sadb.Op{Kind: sadb.OpAddSA, SA: &in},
			sadb.Op{Kind: sadb.OpDeleteSA, SA: t.out}, sadb.Op{Kind: sadb.OpAddSA, SA: &next})
		t.was = &was
	}
	for i, p := range t.policies {
		c := *p
		c.Templates = append([]sadb.Template(nil), p.Templates...)
		if c.Key.Dir == sadb.DirOut {
			c.Templates[0].Dst = to.Addr()
		} else {
			c.Templates[0].Src = to.Addr()
		}
		t.policies[i] = &c
		ops = append(ops, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &c})
	}
	t.in, t.out, t.from = &in, &out, to
	return ops
}

// counted returns ops with the outbound counter as it is now, which an IKE
// daemon copies.
func (s *sim) counted(n *node, t *tunnel, ops []sadb.Op) []sadb.Op {
	snap, _ := n.kernel.Dump(s.t.Context())
	for _, sa := range snap.SAs {
		for i, op := range ops {
			if t.was != nil && sa.Key == t.was.Key && op.Kind == sadb.OpAddSA && op.SA.Key == t.out.Key {
				c := *op.SA
				c.Counters = sa.Counters
				ops[i].SA = &c
			}
		}
	}
	return ops
}

// holds reports whether a node has the tunnel as it is now.
func (s *sim) holds(n *node, t *tunnel) bool {
	snap, _ := n.kernel.Dump(s.t.Context())
	found := 0
	for _, sa := range snap.SAs {
		for _, want := range []*sadb.SA{t.in, t.out} {
			if sa.Key == want.Key && sa.Src == want.Src && *sa.Encap == *want.Encap {
				found++
			}
		}
		if t.was != nil && sa.Key == t.was.Key {
			return false
		}
	}
	for _, p := range snap.Policies {
		for _, want := range t.policies {
			if p.Key == want.Key && p.Templates[0].Src == want.Templates[0].Src &&
				p.Templates[0].Dst == want.Templates[0].Dst {
				found++
			}
		}
	}
	return found == 2+len(t.policies)
}
