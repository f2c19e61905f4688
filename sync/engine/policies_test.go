package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
)

// policyCount returns how many policies there are.
func (k *simKernel) policyCount() int { k.mu.Lock(); defer k.mu.Unlock(); return len(k.policies) }

// looks returns how often the policies were looked at and how many were told.
func (k *simKernel) looks() (looks, told int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.policyLooks, k.policiesTold
}

// TestQuietPoliciesAreRarelyTold: in quiet neither gateway has its kernel list all policies
// at each reading, and a look at their fingerprint is enough for most.
func TestQuietPoliciesAreRarelyTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 100)
		defer w.stop()
		time.Sleep(20 * time.Second)
		const minute = time.Minute
		for i, n := range w.nodes {
			k := n.kernel
			readings := k.readings()
			looks, told := k.looks()
			time.Sleep(minute)
			readings, looks, told = k.readings()-readings, -looks, -told
			l, s := k.looks()
			looks, told = looks+l, told+s
			most := int(minute/policiesEvery) + 1
			lists := int(minute/policiesWhole) + 1
			if readings < 20 || looks == 0 || looks > most || told > lists*k.policyCount() {
				t.Errorf("node %d: %d readings, %d looks at policies, %d policies told; want at most %d and %d", i,
					readings, looks, told, most, lists*k.policyCount())
			}
		}
	})
}

// silently changes a kernel's policies without an announcement.
func (k *simKernel) silently(ops ...sadb.Op) {
	k.mu.Lock()
	defer k.mu.Unlock()
	watchers := k.watchers
	k.watchers = nil
	for _, op := range ops {
		_ = k.apply(op, false)
	}
	k.watchers = watchers
}

// TestUnannouncedPoliciesAreNoticed: what no event tells is found by the next look, on a
// MASTER, which publishes it, and on a standby, which repairs it; also when it comes while
// the fingerprint is known, and goes again.
func TestUnannouncedPoliciesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 20)
		defer w.stop()
		time.Sleep(30 * time.Second)
		first, own := policyOf(1), policyOf(2)
		add := func(p *sadb.Policy) sadb.Op { return sadb.Op{Kind: sadb.OpAddPolicy, Policy: p} }
		remove := func(p *sadb.Policy) sadb.Op { return sadb.Op{Kind: sadb.OpDeletePolicy, Policy: p} }
		changed := *first
		changed.Priority += 7
		for _, step := range []struct {
			what string
			node int
			op   sadb.Op
		}{
			{"added on the master", 0, add(first)},
			{"changed on the master", 0, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: &changed}},
			{"changed on the standby", 1, sadb.Op{Kind: sadb.OpUpdatePolicy, Policy: first}},
			{"deleted on the standby", 1, remove(first)},
			{"added on the standby", 1, add(own)},
			{"deleted on the master", 0, remove(first)},
		} {
			w.nodes[step.node].kernel.silently(step.op)
			time.Sleep(policiesEvery + holdTime + 2*time.Second)
			w.equal(step.what)
		}
		if n := w.nodes[0].kernel.policyCount(); n != 3*20 {
			t.Errorf("the master has %d policies, want %d", n, 3*20)
		}
	})
}

// TestPoliciesOfALostEventAreListed: the deletion of a policy is heard, that it came back
// is not. The fingerprint is the one that is known, and the deletion is not published.
func TestPoliciesOfALostEventAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := pair(t, 20)
		defer w.stop()
		extra := policyOf(1)
		w.nodes[0].kernel.foreign(sadb.Op{Kind: sadb.OpAddPolicy, Policy: extra})
		time.Sleep(30 * time.Second)
		k := w.nodes[0].kernel
		k.foreign(sadb.Op{Kind: sadb.OpDeletePolicy, Policy: extra})
		k.silently(sadb.Op{Kind: sadb.OpAddPolicy, Policy: extra})
		k.mu.Lock()
		for _, c := range k.watchers {
			c <- sadb.Event{Kind: sadb.EventResync, Reason: "test"}
		}
		k.mu.Unlock()
		time.Sleep(2 * holdTime)
		w.nodes[1].kernel.mu.Lock()
		_, held := w.nodes[1].kernel.policies[extra.Key]
		w.nodes[1].kernel.mu.Unlock()
		if !held {
			t.Error("the standby has deleted a policy that the master has")
		}
		w.equal("afterwards")
	})
}
