package engine

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestRemoteEndMoves: what was imported follows a remote end behind a NAT, to another port
// and to another address, once for each move: what the IKE daemon does later stays.
func TestRemoteEndMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 1)
		defer w.stop()
		ops := tunnel(r, 60, false)
		for i, ports := range [][2]uint16{{4500, 1024}, {1024, 4500}} {
			c := *ops[i].SA
			c.Encap = &sadb.Encap{Type: 2, SrcPort: ports[0], DstPort: ports[1]}
			ops[i].SA = &c
		}
		w.nodes[0].kernel.foreign(ops...)
		time.Sleep(3 * time.Second)
		w.nodes[0].role(wire.RoleBackup, 2)
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(3 * time.Second)
		k := w.nodes[1].kernel
		out, in := ops[0].SA.Key, ops[1].SA.Key
		remote := out.Dst
		comes := func(from netip.Addr, port uint16) {
			k.announce(sadb.Event{Kind: sadb.EventMapping, SA: &sadb.SA{Key: in, Src: from, Reqid: ops[1].SA.Reqid},
				Encap: &sadb.Encap{Type: 2, SrcPort: port, DstPort: 4500}})
			time.Sleep(3 * time.Second)
		}
		check := func(when string, port uint16) {
			t.Helper()
			k.mu.Lock()
			defer k.mu.Unlock()
			there, back := out, k.sas[in]
			there.Dst = remote
			if sa := k.sas[there]; sa == nil || sa.Encap.DstPort != port || sa.Encap.SrcPort != 4500 {
				t.Errorf("%s: outbound %+v, want port %d", when, sa, port)
			}
			if back == nil || back.Src != remote || back.Encap.SrcPort != port || back.Encap.DstPort != 4500 {
				t.Errorf("%s: inbound %+v, want from %s, port %d", when, back, remote, port)
			}
			if there != out && k.sas[out] != nil {
				t.Errorf("%s: the SA to the old address is still there", when)
			}
		}
		comes(remote, 2000)
		check("another port", 2000)
		w.equal("another port")
		for i, ports := range [][2]uint16{{4500, 3000}, {3000, 4500}} {
			c := *ops[i].SA
			c.Encap = &sadb.Encap{Type: 2, SrcPort: ports[0], DstPort: ports[1]}
			k.foreign(sadb.Op{Kind: sadb.OpUpdateSA, SA: &c})
		}
		time.Sleep(3 * time.Second)
		check("the IKE daemon says another one", 3000)
		comes(remote, 3000)
		check("nothing new", 3000)
		remote = netip.MustParseAddr("203.0.113.7")
		comes(remote, 4000)
		check("another address", 4000)
		w.equal("another address")
		if n := w.counts(1).Mappings; n != 2 {
			t.Errorf("%d moves are counted, want 2", n)
		}
		if held := w.nodes[1].status().Held; held != 0 {
			t.Errorf("%d deletions are held back", held)
		}
	})
}
