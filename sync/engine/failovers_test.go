package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestFailoversNeverRepeatANumber moves mastership to and fro under traffic, by
// crash and by hand-over, with rekeys while one node is away, and checks every
// number that any node used. Each mastership sends more than the margin, so that
// only counters that arrive keep the next one above it. A standby that is in sync
// takes the counters of every SA.
func TestFailoversNeverRepeatANumber(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { failovers(t, seed) })
		})
	}
}

func failovers(t *testing.T, seed uint64) {
	const (
		margin = 1000
		slow   = 80  // packets in 100 ms, less than the margin in a second
		fast   = 300 // on average not more than 4 times as much, as Margin promises
	)
	w := newWorld(t, 2)
	w.margin.ESN, w.margin.Legacy = margin, margin
	defer w.stop()
	r := rand.New(rand.NewPCG(seed, 7))
	sas := make([][]sadb.Op, 4)
	for i := range sas {
		sas[i] = tunnel(r, i, i%3 == 0)
		w.nodes[0].kernel.foreign(sas[i]...)
	}
	w.join(1)
	time.Sleep(time.Second)
	highest := make(map[sadb.SAKey]uint64)
	use := func(n *simNode, packets uint64) {
		for k, span := range n.kernel.traffic(packets) {
			if span[0] <= highest[k] && packets > 0 {
				t.Fatalf("node %d sends %d on %s, %d was sent before", n.i, span[0], k, highest[k])
			}
			if span[1]-highest[k] >= 1<<31 {
				t.Fatalf("node %d jumps to %d on %s from %d", n.i, span[1], k, highest[k])
			}
			highest[k] = span[1]
		}
	}
	rekey := func(n *simNode) {
		i := r.IntN(len(sas))
		old := sas[i]
		sas[i] = tunnel(r, i, i%3 == 0)
		n.kernel.foreign(sas[i][:2]...)
		n.kernel.foreign(sadb.Op{Kind: sadb.OpDeleteSA, SA: old[0].SA}, sadb.Op{Kind: sadb.OpDeleteSA, SA: old[1].SA})
	}
	master := 0
	for term := uint64(2); term < 30; term++ {
		old, next := w.nodes[master], w.nodes[1-master]
		if r.IntN(3) == 0 {
			rekey(old)
		}
		for i := range 12 + r.IntN(60) {
			packets := r.IntN(slow)
			if i >= 24 { // the counters of two intervals have told the rate
				packets = r.IntN(fast)
			}
			use(old, uint64(packets))
			time.Sleep(100 * time.Millisecond)
		}
		if r.IntN(2) == 0 { // the power goes, then comes back with the kernel's tables
			old.kill()
			use(old, uint64(r.IntN(slow))) // what left before the other noticed
			time.Sleep(750 * time.Millisecond)
			next.role(wire.RoleMaster, term)
			use(next, slow)
			if r.IntN(2) == 0 {
				time.Sleep(time.Second)
				rekey(next)
				time.Sleep(time.Second)
			}
			old.boot(term * 10)
			old.role(wire.RoleBackup, term)
			w.connect(0, 1)
		} else {
			old.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup,
				Term: term - 1}
			time.Sleep(100 * time.Millisecond)
			if got := next.elector.takeovers(); len(got) != 1 || got[0] != term-1 {
				t.Fatalf("term %d: successor was told %v, want one takeover of term %d", term, got, term-1)
			}
			old.role(wire.RoleBackup, term-1)
			away := r.IntN(2) == 0
			if away { // the link is down while there is more to hear
				w.cut(0, 1)
			}
			next.role(wire.RoleMaster, term)
			if away {
				time.Sleep(1500 * time.Millisecond)
				rekey(next)
				time.Sleep(1500 * time.Millisecond)
				w.connect(0, 1)
			}
		}
		master = 1 - master
		time.Sleep(time.Duration(1500+r.IntN(1500)) * time.Millisecond)
		w.equal("after a failover")
		if s := w.nodes[1-master].status(); !s.InSync {
			t.Fatalf("term %d: standby is not in sync: %s", term, s.Why)
		}
		if lost, of := w.unheard(w.nodes[master], w.nodes[1-master]); len(lost) > 0 || of == 0 {
			t.Fatalf("term %d: the standby does not take the counters of %d of %d SAs", term, len(lost), of)
		}
	}
	for _, n := range w.nodes {
		for _, l := range n.kernel.lowered {
			t.Errorf("node %d lowered a counter: %s", n.i, l)
		}
	}
}

// TestSuccessorThatIsNotHeard: a MASTER hands over under steady traffic, what its
// successor sends is never heard, and the successor dies. Both have seen the same
// rate, and lead by it; the ex-master sends no number that its successor used.
func TestSuccessorThatIsNotHeard(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			w.margin.ESN, w.margin.Legacy = 1000, 1000
			defer w.stop()
			r := rand.New(rand.NewPCG(seed, 8))
			a, b := w.nodes[0], w.nodes[1]
			w.join(1)
			time.Sleep(3 * time.Second)
			for i := range 4 {
				a.kernel.foreign(tunnel(r, i, i%3 == 0)...)
			}
			rate := uint64(10 + r.IntN(300)) // packets in 100 ms
			used := make(map[sadb.SAKey]uint64)
			send := func(n *simNode, times int) {
				for range times {
					for k, span := range n.kernel.traffic(rate) {
						if span[0] <= used[k] {
							t.Fatalf("seed %d: node %d sends %d on %s, %d was sent before", seed, n.i, span[0], k,
								used[k])
						}
						used[k] = span[1]
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
			rate /= 4 // less than the margin until the rate is known
			send(a, 25)
			rate *= 4
			send(a, 30+r.IntN(40))
			a.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
			time.Sleep(100 * time.Millisecond)
			a.role(wire.RoleBackup, 1)
			w.cut(0, 1)
			b.role(wire.RoleMaster, 2)
			send(b, 1+r.IntN(15))
			b.kill()
			time.Sleep(time.Second)
			a.role(wire.RoleMaster, 3)
			send(a, 20)
			b.boot(20)
		})
	}
}
