package engine

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// flushPolicies is `ip xfrm policy flush`.
func (k *simKernel) flushPolicies() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.policies)
	for _, w := range k.watchers {
		w <- sadb.Event{Kind: sadb.EventFlushPolicy}
	}
}

// TestPoliciesAreBackAfterAFlush: whoever flushes the policies of a MASTER, what
// they protect goes in plaintext until they are back. So they are back at once,
// before any SA, and no standby hears of it.
func TestPoliciesAreBackAfterAFlush(t *testing.T) {
	for _, tc := range []struct {
		name  string
		keys  *simKeying // nil: nobody negotiates here
		flush func(*simKernel)
	}{
		{"policies, by hand", nil, (*simKernel).flushPolicies},
		{"policies, beside an IKE daemon", &simKeying{}, (*simKernel).flushPolicies},
		{"both tables, by a daemon's start", &simKeying{flushes: true}, (*simKernel).flush},
		{"policies, and a reading shows it before the kernel says so", nil, func(k *simKernel) {
			k.mu.Lock()
			clear(k.policies)
			k.mu.Unlock()
			time.Sleep(1500 * time.Millisecond)
			k.flushPolicies()
		}},
		{"both tables, the policies a moment later", &simKeying{flushes: true}, func(k *simKernel) {
			k.flushSAs()
			time.Sleep(time.Millisecond)
			k.flushPolicies()
		}},
		{"both tables, the policies first", &simKeying{flushes: true},
			func(k *simKernel) { k.flushPolicies(); k.flushSAs() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				r := rand.New(rand.NewPCG(1, 2))
				k := w.nodes[0].kernel
				for i := range 60 {
					k.foreign(tunnel(r, i, false)...)
				}
				if tc.keys != nil {
					w.nodes[0].keying = tc.keys
				}
				w.nodes[0].boot(100)
				w.nodes[1].boot(101)
				defer w.stop()
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				time.Sleep(3 * time.Second)
				before, standby := k.text(), w.nodes[1].kernel.beyondCounters()
				seen, err := k.Watch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tc.flush(k)
				time.Sleep(10 * time.Millisecond)
				if k.text() != before {
					t.Error("what was flushed is not back at once")
				}
				policies, early := 0, 0
				for len(seen) > 0 {
					switch ev := <-seen; ev.Kind {
					case sadb.EventPutPolicy:
						policies++
					case sadb.EventPutSA:
						if policies < len(k.policies) {
							early++
						}
					}
				}
				if policies == 0 || early > 0 {
					t.Errorf("%d SAs were put back before all of %d policies", early, policies)
				}
				if w.nodes[1].kernel.beyondCounters() != standby {
					t.Error("the flush reached the standby")
				}
				time.Sleep(10 * time.Second)
				w.equal("after the flush")
				if s, _ := w.nodes[0].engine.Status(context.Background()); s.Counts.PoliciesBack != uint64(policies) {
					t.Errorf("%d policies counted as put back, want %d", s.Counts.PoliciesBack, policies)
				}
			})
		})
	}
}

// TestADeletedPolicyStaysDeleted: a flush brings nothing back that was deleted by
// itself before.
func TestADeletedPolicyStaysDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		r := rand.New(rand.NewPCG(1, 2))
		k := w.nodes[0].kernel
		ops := tunnel(r, 0, false)
		k.foreign(ops...)
		w.nodes[0].boot(100)
		defer w.stop()
		w.nodes[0].role(wire.RoleMaster, 1)
		time.Sleep(3 * time.Second)
		var gone *sadb.Policy
		k.mu.Lock()
		for _, p := range k.policies {
			gone = p
		}
		left := len(k.policies) - 1
		k.mu.Unlock()
		k.foreign(sadb.Op{Kind: sadb.OpDeletePolicy, Policy: gone})
		time.Sleep(100 * time.Millisecond)
		k.flushPolicies()
		time.Sleep(100 * time.Millisecond)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.policies[gone.Key] != nil || len(k.policies) != left {
			t.Errorf("%d policies after the flush, want the %d that were not deleted", len(k.policies), left)
		}
	})
}

// TestStandbyThatLacksAVIP: the kernel has the SAs of a virtual IP that this node's group
// lacks, and no reading shows them. It neither reads without end nor says so each time.
func TestStandbyThatLacksAVIP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.stop()
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 6 {
			w.nodes[0].kernel.foreign(tunnel(r, i, i%3 == 0)...)
		}
		w.nodes[0].boot(100)
		w.nodes[1].boot(101)
		w.nodes[0].role(wire.RoleMaster, 1)
		w.nodes[1].elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleBackup, Term: 1,
			VIPs: simVIPs[:1], Reason: "test"}
		w.connect(0, 1)
		time.Sleep(5 * time.Second)
		before := w.nodes[1].kernel.readings()
		time.Sleep(time.Minute)
		if n := w.nodes[1].kernel.readings() - before; n > 60 {
			t.Errorf("the standby read its tables %d times in a minute", n)
		}
		if n := w.log.count("differed from the master") + w.log.count("cannot be repaired"); n == 0 || n > 5 {
			t.Errorf("it says %d times that it repairs", n)
		}
		// What it has is followed as soon as the virtual IP is there.
		w.nodes[1].role(wire.RoleBackup, 1)
		time.Sleep(5 * time.Second)
		w.equal("with the virtual IP")
		if s := w.nodes[1].status(); !s.InSync || s.Refused != 0 {
			t.Errorf("with the virtual IP: in sync %v (%s), %d refused", s.InSync, s.Why, s.Refused)
		}
	})
}
