package carp

import (
	"container/heap"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The simulation runs whole elections in virtual time: nodes with a machine
// each, a network that loses and delays, a kernel that takes time, clients that
// prepare, nodes that stall, die and come back.

type sim struct {
	t     *testing.T
	rnd   *rand.Rand
	now   time.Duration
	seq   int
	queue simQueue
	nodes []*simNode

	loss    float64
	cut     map[[2]int]bool // from, to
	trace   []string
	orders  bool // who hands over orders another to take over, as sasyncd does
	changes int  // of master
	told    bool // clients tell each other how much their nodes are demoted

	lesserFor time.Duration // longest time that a master stayed before a less demoted node

	dual    time.Duration // since when two nodes serve, 0 not
	worst   time.Duration
	serving int
}

type simNode struct {
	s      *sim
	id     int
	cfg    GroupConfig
	addr   netip.Addr
	g      *Group
	life   int // events of an earlier life do not count
	term   uint64
	stall  time.Duration // until
	inbox  []func()
	wakeAt time.Duration
	serves bool          // addresses up and fence open
	until  time.Duration // of the lease
	busy   time.Duration // kernel is working until
	mute   bool          // cannot send

	// What the client knows.
	peers      bool // members are ready
	told       State
	words      []fitness
	lesserFrom time.Duration
}

// profile is a protocol to simulate.
type profile struct {
	name  string
	every time.Duration               // longest interval between advertisements
	down  time.Duration               // shortest time without one to a takeover
	edit  func(i int, c *GroupConfig) // of node i
}

func profiles() []profile {
	carp := func(base, skew, step uint8, dialect func(i int) Dialect) func(i int, c *GroupConfig) {
		return func(i int, c *GroupConfig) {
			rc := CARPRouter(1, base, skew+uint8(i)*step, dialect(i))
			c.Routers = []RouterConfig{rc, rc}
		}
	}
	all := func(d Dialect) func(int) Dialect { return func(int) Dialect { return d } }
	mixed := func(i int) Dialect { return Dialect(i % 2) }
	return []profile{
		{"vrrp3", 250 * ms, 750 * ms, func(int, *GroupConfig) {}},
		{"carp openbsd", 1400 * ms, 3 * time.Second, carp(1, 0, 50, all(OpenBSD))},
		{"carp freebsd", 1400 * ms, 3 * time.Second, carp(1, 0, 50, all(FreeBSD))},
		{"carp mixed", 1400 * ms, 3 * time.Second, carp(1, 0, 50, mixed)},
		{"carp fast", 376 * ms, 750 * ms, carp(0, 64, 16, all(OpenBSD))},
		// Equal nodes: nothing but the order of events decides.
		{"carp tie", 1100 * ms, 3 * time.Second, carp(1, 20, 0, all(OpenBSD))},
	}
}

func newSim(t *testing.T, seed int64, nodes int, edit func(i int, c *GroupConfig)) *sim {
	s := &sim{t: t, rnd: rand.New(rand.NewSource(seed)), cut: map[[2]int]bool{}}
	for i := range nodes {
		rc := RouterConfig{Proto: VRRP3, ID: 1, Priority: uint8(200 - 50*i), Interval: 250 * ms}
		cfg := GroupConfig{Name: "g", Routers: []RouterConfig{rc, rc}, PrepareTimeout: 2 * time.Second,
			StartHold: time.Second}
		if edit != nil {
			edit(i, &cfg)
		}
		n := &simNode{s: s, id: i, cfg: cfg, addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}
		s.nodes = append(s.nodes, n)
		s.at(time.Duration(s.rnd.Intn(3000))*ms, n.boot)
	}
	return s
}

func (s *sim) at(when time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{max(when, s.now), s.seq, do})
}

func (s *sim) run(until time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= until {
		ev := heap.Pop(&s.queue).(simEvent)
		s.now = ev.at
		ev.do()
		s.judge()
		if s.told {
			s.lesser()
		}
	}
	s.now = until
}

// judge watches how many nodes serve.
func (s *sim) judge() {
	n := 0
	for _, node := range s.nodes {
		if node.serves {
			n++
		}
	}
	s.serving = n
	if n > 1 && s.dual == 0 {
		s.dual = s.now
	}
	if n <= 1 && s.dual != 0 {
		s.worst = max(s.worst, s.now-s.dual)
		s.dual = 0
	}
}

func (s *sim) log(n *simNode, format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%v node %d: %s", s.now, n.id, fmt.Sprintf(format, args...)))
}

func (n *simNode) boot() {
	n.life++
	n.inbox, n.stall, n.busy = nil, 0, 0
	n.g = NewGroup(n.cfg, n.s.now, n.term)
	n.wakeAt = Never
	n.s.log(n, "boots")
	for i := range n.cfg.Routers {
		n.step(Event{Kind: EvUp, Router: i, Src: n.addr})
	}
	n.step(Event{Kind: EvClient, Client: 1, Name: "sasyncd", Prepare: true})
}

// kill ends the process. What it holds in the kernel stays until its lease ends.
func (n *simNode) kill() {
	n.life++
	n.g = nil
	n.s.log(n, "is killed")
}

// later runs do in this life, or after a stall.
func (n *simNode) later(when time.Duration, do func()) {
	life := n.life
	n.s.at(when, func() {
		if n.life == life && n.g != nil {
			n.awake(do)
		}
	})
}

// awake runs do now, or puts it aside while the process is stopped.
func (n *simNode) awake(do func()) {
	if n.s.now < n.stall {
		n.inbox = append(n.inbox, do)
		return
	}
	do()
}

func (n *simNode) freeze(d time.Duration) {
	n.s.log(n, "stalls for %v", d)
	n.stall = n.s.now + d
	life := n.life
	n.s.at(n.stall, func() {
		if n.life != life || n.g == nil {
			return
		}
		n.s.log(n, "goes on")
		box := n.inbox
		n.inbox = nil
		for _, do := range box { // the receive queue is drained before the timers
			do()
		}
		n.wake()
		if r := n.g.routers[0]; d > max(time.Second, r.stale()+r.every()) &&
			(n.g.step.phase == phaseMaster || n.g.step.phase == phaseAcquiring) {
			n.s.fail("node %d serves on after a stall of %v", n.id, d)
		}
	})
}

func (n *simNode) step(ev Event) {
	for _, a := range slices.Clone(n.g.Step(n.s.now, ev)) {
		n.do(a)
	}
	if d := n.g.Deadline(); d != n.wakeAt {
		n.wakeAt = d
		if d != Never {
			life := n.life
			n.s.at(d, func() {
				// After a stall the receive queue comes before the timers.
				if n.life == life && n.g != nil && n.wakeAt == d && n.s.now >= n.stall {
					n.wake()
				}
			})
		}
	}
}

func (n *simNode) wake() {
	if n.s.now >= n.g.Deadline() {
		n.wakeAt = Never
		n.step(Event{Kind: EvTick})
	}
}

func (n *simNode) do(a Action) {
	s := n.s
	kernel := func(what func()) {
		n.busy = max(n.busy, s.now) + time.Duration(s.rnd.Int63n(int64(simKernel)))
		// The kernel works on even when the process is stopped or dies.
		s.at(n.busy, what)
		op := a.Op
		n.later(n.busy, func() { n.step(Event{Kind: EvDone, Op: op}) })
	}
	switch a.Kind {
	case ActAdvert:
		if n.mute {
			n.step(Event{Kind: EvSent, Router: a.Router, Err: errMute})
			return
		}
		n.multicast(a)
		n.step(Event{Kind: EvSent, Router: a.Router})
	case ActTerm:
		n.term = a.Term
	case ActPrepare:
		term := a.Term
		n.later(s.now+time.Duration(s.rnd.Intn(4))*ms,
			func() { n.step(Event{Kind: EvPrepared, Client: 1, Term: term}) })
		if a.To == Backup && s.orders {
			to := n.successor()
			to.later(s.now+time.Duration(s.rnd.Intn(5))*ms,
				func() { to.step(Event{Kind: EvTakeover, Term: max(term, to.g.seen)}) })
		}
	case ActFence:
		if s.told && n.g.step.why == whyDemoted && n.words[n.successor().id].demotion >= n.g.fit.demotion {
			s.fail("node %d hands over to one that is not less demoted", n.id)
		}
		kernel(func() { n.serve(false) })
	case ActRelease:
		kernel(func() { n.serve(false) })
	case ActAcquire:
		kernel(func() { n.serve(true) })
	case ActRenew:
		n.serve(true) // an address whose lease ended is put back
		n.step(Event{Kind: EvRenewed, Proof: s.now})
	case ActState:
		s.log(n, "%v > %v (%s)", a.Old, a.To, a.Reason)
		if a.To == Master {
			s.changes++
		}
		if n.words != nil {
			n.later(s.now+time.Duration(1+s.rnd.Intn(4))*ms, func() {
				n.told = a.To
				n.sayReady()
			})
		}
	case ActFitness:
		if n.words != nil {
			n.tellOthers()
		}
	case ActStall:
		s.log(n, "notices a stall of %v", a.For)
	}
}

func (n *simNode) serve(yes bool) {
	n.serves = yes
	if yes {
		n.extend()
	}
}

func (n *simNode) extend() {
	n.until = n.s.now + simLease
	n.s.at(n.until, func() {
		if n.s.now >= n.until {
			n.serves = false
		}
	})
}

func (n *simNode) multicast(a Action) {
	s := n.s
	adv := Advert{From: n.addr, Priority: a.Priority, Interval: n.cfg.Routers[a.Router].Interval}
	if n.cfg.Routers[a.Router].Proto == CARP {
		adv = CARPAdvert(n.addr, a.Base, a.Skew, a.Demotion, false)
	}
	for _, to := range s.nodes {
		if to == n || s.cut[[2]int{n.id, to.id}] || s.rnd.Float64() < s.loss {
			continue
		}
		to.later(s.now+time.Duration(s.rnd.Int63n(int64(simDelay))), func() {
			worse := !to.cfg.PreferTraffic && to.g.public == Master && adv.Priority > 0 &&
				to.g.routers[a.Router].compare(adv) > 0
			to.step(Event{Kind: EvAdvert, Router: a.Router, Advert: adv})
			if worse {
				// Whoever hears a better master must be silent as soon as its
				// kernel can do it.
				at := s.now
				s.at(max(to.busy, s.now)+simKernel, func() {
					if to.serves && to.g != nil && to.g.since < at {
						s.fail("node %d still serves after a better master was heard", to.id)
					}
				})
			}
		})
	}
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	for _, l := range s.trace[max(0, len(s.trace)-40):] {
		s.t.Log(l)
	}
	s.t.Fatalf("at %v: %s", s.now, fmt.Sprintf(format, args...))
}

// settled fails unless exactly one node serves after a quiet time, and two
// never did for longer than bound.
func (s *sim) settled(bound time.Duration) {
	s.t.Helper()
	if s.dual != 0 {
		s.worst = max(s.worst, s.now-s.dual)
	}
	if s.serving != 1 {
		s.fail("%d nodes serve", s.serving)
	}
	if s.worst > bound {
		s.fail("two nodes served for %v, more than %v", s.worst, bound)
	}
}

// runs is how many seeds are tried: all protocols share the machine above them.
func (p profile) runs() int {
	if p.name == "vrrp3" {
		return 150
	}
	return 50
}

func simulate(t *testing.T, f func(s *sim, p profile, seed int64), edit func(i int, c *GroupConfig)) {
	simulateUpTo(3, t, f, edit)
}

// simulateUpTo plays histories of two nodes and of up to most.
func simulateUpTo(most int, t *testing.T, f func(s *sim, p profile, seed int64), edit func(i int, c *GroupConfig)) {
	for _, p := range profiles() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // histories share nothing
			for seed := range int64(p.runs()) {
				s := newSim(t, seed, 2+int(seed)%(most-1), func(i int, c *GroupConfig) {
					p.edit(i, c)
					if edit != nil {
						edit(i, c)
					}
				})
				f(s, p, seed)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}
