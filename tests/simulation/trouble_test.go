package simulation

import (
	"fmt"
	"testing"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestReadingsFail: readings of a kernel's tables fail, now on the MASTER, now on a
// standby, while mastership moves. An ex-master that could not read its own
// counters is not ready before it has raised them, and no number is sent twice.
func TestReadingsFail(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).readingsFail) })
	}
}

func (s *sim) readingsFail() {
	s.unread(func(m, n *node) {
		away := s.rng.IntN(2) == 0 // it does not hear its successor either
		for j := range s.nodes {
			if away && j != m.i {
				s.note("sync link %d-%d is cut", m.i, j)
				s.syncCut[pairOf(m.i, j)] = true
				s.cut(m.i, j)
			}
		}
		n.breakReadings(false)
		s.pass(4 * time.Second)
		clear(s.syncCut)
		s.pass(time.Second)
		if next := s.master(); next != nil && s.rng.IntN(2) == 0 {
			s.note("node %d loses its power", next.i)
			next.powerCut()
			s.pass(4 * time.Second)
			next.startCarpd()
			next.startSasyncd()
			s.pass(8 * time.Second)
		}
	})
}

// unread has the MASTER m hand over four times while readings of the tables of n
// fail, which is m or a standby. then says how each goes on, and ends the failures.
func (s *sim) unread(then func(m, n *node)) {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	for range 4 {
		s.pass(4 * time.Second) // the standbys know the rates
		m := s.master()
		if m == nil || s.t.Failed() {
			return
		}
		n := m
		if s.rng.IntN(3) == 0 {
			n = s.nodes[s.rng.IntN(len(s.nodes))]
		}
		n.breakReadings(true)
		s.pass(time.Duration(s.rng.IntN(1000)) * time.Millisecond)
		s.note("node %d hands over", m.i)
		m.Resign("", "operator")
		s.pass(time.Duration(500+s.rng.IntN(2000)) * time.Millisecond)
		then(m, n)
		s.rekey()
	}
	s.quiet()
}

// TestFlushes: the IKE daemon of the MASTER dies and takes all SAs with it, in the
// middle of a rekey, so that there are two generations of each tunnel; then the
// node dies. Who takes over has both generations of every tunnel.
func TestFlushes(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).flushes) })
	}
}

func (s *sim) flushes() {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	for range 3 {
		s.pass(3 * time.Second)
		m := s.master()
		if m == nil || s.t.Failed() {
			return
		}
		s.note("node %d negotiates every tunnel beside the old SAs", m.i)
		s.negotiate(m)
		s.pass(time.Duration(100+s.rng.IntN(2000)) * time.Millisecond)
		want := config(m)
		s.note("the tables of node %d are flushed", m.i)
		m.ike.FlushSA(0)
		if s.rng.IntN(2) == 0 {
			m.ike.FlushPolicy(false)
		}
		s.pass(time.Duration(s.rng.IntN(1500)) * time.Millisecond)
		s.note("node %d loses its power", m.i)
		m.powerCut()
		s.pass(4 * time.Second)
		next := s.master()
		if next == nil {
			s.t.Errorf("%s: seed %d: nobody has taken over", time.Since(s.start), s.seed)
			return
		}
		if got := config(next); got != want {
			s.t.Errorf("I5: seed %d: node %d has taken over from node %d, whose tables were flushed, with\n%s\nof\n%s",
				s.seed, next.i, m.i, got, want)
		}
		m.startCarpd()
		m.startSasyncd()
		s.pass(8 * time.Second)
	}
	s.quiet()
}

// negotiate has a node's IKE daemon negotiate every tunnel beside the SAs there are.
func (s *sim) negotiate(m *node) {
	for id, t := range s.tunnels {
		old := *t
		t.out, t.in, t.since = s.sa(old.out.Src, old.out.Key.Dst, id), s.sa(old.in.Src, old.in.Key.Dst, id), time.Now()
		t.far, t.made, t.was, t.inSeq = t.out.Key, s.masterships, nil, 0
		s.apply(m, sadb.Op{Kind: sadb.OpAddSA, SA: t.in}, sadb.Op{Kind: sadb.OpAddSA, SA: t.out})
	}
}

// TestPreparedInVain: the election of a standby asks sasyncd to prepare for MASTER,
// and then dies or thinks better of it, while the MASTER lives on and rekeys. The
// standby has missed that, and gets it, or does not say that it is in sync.
func TestPreparedInVain(t *testing.T) {
	for i := range (*histories + 1) / 2 {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, seed, 2+int(seed%2), (*sim).preparedInVain) })
	}
}

func (s *sim) preparedInVain() {
	s.pass(12 * time.Second)
	for range 3 {
		s.add()
	}
	for range 4 {
		s.pass(3 * time.Second)
		m := s.master()
		if m == nil || s.t.Failed() {
			return
		}
		n := s.nodes[(m.i+1+s.rng.IntN(len(s.nodes)-1))%len(s.nodes)]
		n.mu.Lock()
		term := n.term + 1
		n.mu.Unlock()
		s.note("node %d prepares for term %d", n.i, term)
		n.deliver(engine.ElectorEvent{Kind: engine.ElectorPrepare, To: wire.RoleMaster, Term: term})
		s.pass(time.Duration(s.rng.IntN(300)) * time.Millisecond)
		dies := s.rng.IntN(2) == 0
		if dies {
			s.note("carpd of node %d dies", n.i)
			n.killCarpd()
		}
		s.rekey()
		s.busy(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
		if dies {
			n.startCarpd()
		} else {
			s.note("node %d is not to be MASTER after all", n.i)
			n.deliver(engine.ElectorEvent{Kind: engine.ElectorCancel, Term: term})
		}
		s.pass(5 * time.Second)
		if s.rng.IntN(2) == 0 {
			s.rekey()
		}
		s.pass(5 * time.Second)
		if got, want := config(n), config(m); s.master() == m && n.saysInSync() && got != want {
			s.t.Errorf("I4: %s: seed %d: node %d says that it is in sync, and has\n%s\nof\n%s", time.Since(s.start),
				s.seed, n.i, got, want)
		}
	}
	s.quiet()
}
