package engine

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestFourStandbys: what one master publishes is in four kernels, and stays
// there through a change of master.
func TestFourStandbys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		defer w.stop()
		r := rand.New(rand.NewPCG(4, 4))
		for i := range 20 {
			w.nodes[0].kernel.foreign(tunnel(r, i, i%2 == 0)...)
		}
		for i, n := range w.nodes {
			n.boot(uint64(i + 1))
			n.role(wire.RoleBackup, 0)
		}
		for i := range w.nodes {
			for j := range i {
				w.connect(i, j)
			}
		}
		w.nodes[0].role(wire.RoleMaster, 1)
		same := func(when string) {
			t.Helper()
			for _, n := range w.nodes[1:] {
				if n.kernel.text() != w.nodes[0].kernel.text() {
					t.Errorf("%s: node %d differs", when, n.i)
				}
				if s := n.status(); s.Role == "BACKUP" && !s.InSync {
					t.Errorf("%s: node %d is not in sync: %s", when, n.i, s.Why)
				}
			}
		}
		time.Sleep(2 * time.Second)
		same("after the snapshots")
		w.nodes[0].role(wire.RoleBackup, 1)
		w.nodes[3].role(wire.RoleMaster, 2)
		time.Sleep(2 * time.Second)
		w.nodes[3].kernel.foreign(tunnel(r, 50, false)...)
		time.Sleep(time.Second)
		same("under another master")
	})
}

// TestActiveActive: two groups with masters of their own on two nodes, and
// IPsec that is neither's. Each group is replicated one way; what ends on a
// node's own address is never touched.
func TestActiveActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.more = []GroupConfig{{Name: "carp2"}}
		defer w.stop()
		r := rand.New(rand.NewPCG(11, 11))
		second := []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		mine := tunnel(r, 1, false)
		theirs := move(tunnel(r, 3, false), simVIPs[0], second[0])
		local := move(tunnel(r, 5, false), simVIPs[0], netip.MustParseAddr("192.0.2.11"))
		w.nodes[0].kernel.foreign(append(mine, local...)...)
		w.nodes[1].kernel.foreign(theirs...)
		for i, n := range w.nodes {
			n.boot(uint64(i))
			roles := []wire.Role{wire.RoleMaster, wire.RoleBackup}
			n.role(roles[i], 1)
			n.elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: roles[1-i], Term: 1,
				VIPs: second}
		}
		w.connect(0, 1)
		time.Sleep(3 * time.Second)
		for _, x := range []struct {
			name string
			ops  []sadb.Op
			on   [2]bool
		}{{"first group", mine, [2]bool{true, true}}, {"second group", theirs, [2]bool{true, true}},
			{"node-local", local, [2]bool{true, false}}} {
			for i, n := range w.nodes {
				for _, op := range x.ops {
					if op.SA != nil && n.kernel.has(op.SA.Key) != x.on[i] {
						t.Errorf("%s: node %d has %s: %v, want %v", x.name, i, op.SA.Key, !x.on[i], x.on[i])
					}
				}
			}
		}
		// The second group moves; the first stays where it is.
		before := w.nodes[1].kernel.count()
		w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: wire.RoleBackup, Term: 1,
			VIPs: second}
		w.nodes[0].elector.events <- ElectorEvent{Kind: ElectorState, Group: "carp2", Role: wire.RoleMaster, Term: 2,
			VIPs: second}
		time.Sleep(3 * time.Second)
		if n := w.nodes[1].kernel.count() - before; n > 8 {
			t.Errorf("%d kernel operations on node 1 for a group of two SAs that moved away", n)
		}
		s, err := w.nodes[0].engine.Status(t.Context())
		if err != nil || s.Groups[0].Role != "MASTER" || s.Groups[1].Role != "MASTER" ||
			len(s.Groups[1].Standbys) != 1 || !s.Groups[1].Standbys[0].Complete {
			t.Errorf("node 0: %+v %v", s.Groups, err)
		}
	})
}

// move gives a tunnel another local end.
func move(ops []sadb.Op, from, to netip.Addr) []sadb.Op {
	for _, op := range ops {
		if op.SA != nil {
			if op.SA.Src == from {
				op.SA.Src = to
			} else {
				op.SA.Key.Dst = to
			}
		}
		if op.Policy != nil {
			for i := range op.Policy.Templates {
				x := &op.Policy.Templates[i]
				if x.Src == from {
					x.Src = to
				} else {
					x.Dst = to
				}
			}
		}
	}
	return ops
}
