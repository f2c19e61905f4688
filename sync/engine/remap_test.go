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

// tell announces an event as the kernel does.
func (k *simKernel) tell(ev sadb.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.watchers {
		w <- ev
	}
}

// TestRemap: after a takeover the remote's NAT gives it another address and
// port. The replicated SAs and the policies follow on all members, without a
// number sent twice; SAs of the IKE daemon are its own business.
func TestRemap(t *testing.T) {
	for _, to := range []string{"198.51.100.0", "203.0.113.77"} { // another port only, or another address
		t.Run(to, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				r := rand.New(rand.NewPCG(1, 2))
				ops := tunnel(r, 0, false)
				ops[0].SA.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500}
				ops[1].SA.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500}
				other := tunnel(r, 1, false)
				k := w.nodes[0].kernel
				k.foreign(append(ops, other...)...)
				w.nodes[0].boot(100)
				w.nodes[1].boot(101)
				defer w.stop()
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				time.Sleep(3 * time.Second)
				moved := netip.MustParseAddr(to)
				ev := sadb.Event{Kind: sadb.EventMapping, SA: &sadb.SA{Key: ops[1].SA.Key, Reqid: 1, Src: moved}, Encap: &sadb.Encap{SrcPort: 1024}}
				before := k.text()
				k.tell(ev)
				time.Sleep(10 * time.Millisecond)
				if k.text() != before {
					t.Fatal("an SA of the IKE daemon was changed")
				}
				w.nodes[0].role(wire.RoleBackup, 2)
				w.nodes[1].role(wire.RoleMaster, 2)
				time.Sleep(3 * time.Second)
				k = w.nodes[1].kernel
				sent := k.traffic(10)
				k.tell(ev)
				k.tell(ev) // with every packet, until it is followed
				time.Sleep(10 * time.Millisecond)
				out := ops[0].SA.Key
				out.Dst = moved
				in := k.sa(ops[1].SA.Key)
				if in == nil || in.Src != moved || in.Encap.SrcPort != 1024 || in.Encap.DstPort != 4500 {
					t.Errorf("inbound: %+v", in)
				}
				sa := k.sa(out)
				if sa == nil || sa.Encap.DstPort != 1024 || sa.Encap.SrcPort != 4500 {
					t.Fatalf("outbound: %+v", sa)
				}
				if last := sent[ops[0].SA.Key][1]; sa.OSeq < last {
					t.Errorf("outbound counter at %d, %d was sent", sa.OSeq, last)
				}
				if k.size() != 4 {
					t.Errorf("%d SAs, want those of 2 tunnels", k.size())
				}
				for _, op := range ops[2:] {
					p := k.policy(op.Policy.Key)
					if p == nil || p.Templates[0].Dst != moved && p.Templates[0].Src != moved {
						t.Errorf("policy %s: %+v", op.Policy.Key, p)
					}
				}
				time.Sleep(3 * time.Second)
				w.equal("after the mapping changed")
			})
		})
	}
}

func (k *simKernel) sa(key sadb.SAKey) *sadb.SA {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sas[key]
}

func (k *simKernel) policy(key sadb.PolicyKey) *sadb.Policy {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.policies[key]
}
