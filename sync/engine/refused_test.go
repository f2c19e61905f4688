package engine

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestOffloadedStayOut: an SA whose cryptography a device does is not replicated,
// and that is said and counted; its tunnel's other half and all others are.
func TestOffloadedStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := pair(t, 3)
		defer w.stop()
		ops := tunnel(r, 9, false)
		sa := *ops[0].SA
		sa.Offloaded = true
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddSA, SA: &sa}, ops[1])
		time.Sleep(3 * time.Second)
		if w.nodes[1].kernel.has(sa.Key) || !w.nodes[1].kernel.has(ops[1].SA.Key) {
			t.Error("the standby has the offloaded SA, or lacks another")
		}
		if n := w.nodes[0].status().Offloaded; n != 1 {
			t.Errorf("%d offloaded SAs are counted, want 1", n)
		}
		if log := w.log.b.String(); strings.Count(log, "offloaded to a device are not replicated") != 1 {
			t.Error("that is not logged once")
		}
		// Neither does a standby's own become the master's business.
		w.nodes[0].role(wire.RoleBackup, 2)
		w.nodes[1].role(wire.RoleMaster, 2)
		time.Sleep(3 * time.Second)
		if w.nodes[1].kernel.has(sa.Key) || !w.nodes[0].kernel.has(sa.Key) {
			t.Error("the change of roles moved or removed the offloaded SA")
		}
	})
}

// TestUnlikeKernels: between kernels of different releases everything goes on as
// long as this version knows every attribute; what it does not know stays out,
// and both sides say so.
func TestUnlikeKernels(t *testing.T) {
	for name, release := range map[string]string{"like": "6.1.0", "unlike": "6.12.9"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				defer w.stop()
				w.nodes[0].release, w.nodes[1].release = "6.1.0", release
				r := rand.New(rand.NewPCG(1, 2))
				plain, strange := tunnel(r, 1, false), tunnel(r, 2, false)
				sa := *strange[0].SA
				sa.Unknown = []sadb.Attr{{Type: 99, Data: []byte{1, 2, 3, 4}}}
				pol := *strange[2].Policy
				pol.Unknown = []sadb.Attr{{Type: 98, Data: []byte{1}}}
				w.nodes[0].kernel.foreign(append(plain, sadb.Op{Kind: sadb.OpAddSA, SA: &sa},
					sadb.Op{Kind: sadb.OpAddPolicy, Policy: &pol})...)
				w.nodes[0].boot(100)
				w.nodes[1].boot(101)
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				time.Sleep(8 * time.Second) // beyond a digest
				m, s := w.nodes[0].status(), w.nodes[1].status()
				want, sas := 0, 3
				if name == "unlike" {
					want, sas = 2, 2
				}
				if m.Unlike != want || s.Unlike != want || s.Refused != want {
					t.Errorf("the master says %d, the standby %d and %d refused, want %d", m.Unlike, s.Unlike,
						s.Refused, want)
				}
				if got := len(w.nodes[1].kernel.order); got != sas {
					t.Errorf("the standby has %d SAs, want %d", got, sas)
				}
				if !s.InSync {
					t.Errorf("the standby is not in sync: %s", s.Why)
				}
				if n := w.counts(1).DigestMismatches; n != 0 {
					t.Errorf("%d digest mismatches", n)
				}
			})
		})
	}
}
