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

const (
	simLease  = 2350 * ms // as the kernel really keeps an address after its last renewal
	simKernel = 5 * ms    // longest kernel operation
	simDelay  = 3 * ms    // longest way on the wire
)

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

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
		cfg := GroupConfig{Name: "g", Routers: []RouterConfig{rc, rc}, PrepareTimeout: 2 * time.Second, StartHold: time.Second}
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
		if r := n.g.routers[0]; d > max(time.Second, r.stale()+r.every()) && (n.g.phase == phaseMaster || n.g.phase == phaseAcquiring) {
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
		n.later(s.now+time.Duration(s.rnd.Intn(4))*ms, func() { n.step(Event{Kind: EvPrepared, Client: 1, Term: term}) })
		if a.To == Backup && s.orders {
			to := n.successor()
			to.later(s.now+time.Duration(s.rnd.Intn(5))*ms, func() { to.step(Event{Kind: EvTakeover, Term: max(term, to.g.seen)}) })
		}
	case ActFence:
		if s.told && n.g.why == whyDemoted && n.words[n.successor().id].demotion >= n.g.demotion {
			s.fail("node %d hands over to one that is not less demoted", n.id)
		}
		kernel(func() { n.serve(false) })
	case ActRelease:
		kernel(func() { n.serve(false) })
	case ActAcquire:
		kernel(func() { n.serve(true) })
	case ActRenew:
		n.serve(true) // an address whose lease ended is put back
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
			worse := !to.cfg.PreferTraffic && to.g.public == Master && adv.Priority > 0 && to.g.routers[a.Router].compare(adv) > 0
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

// instant is what a change of mastership by an advertisement takes.
const instant = simDelay + simKernel

// leaseOverlap is how long the addresses of a node that was killed or stopped
// can stay beside those of its successor: the last renewal is at most 1 s and an
// interval older than the last advertisement if that is shorter than 1 s.
func (p profile) leaseOverlap() time.Duration {
	return max(0, simLease-p.down) + 2*instant
}

// Without faults nobody ever serves beside another, and a preempting node takes
// over without the two overlapping longer than it takes to tell.
func TestSimulationQuiet(t *testing.T) {
	for _, preempt := range []Preempt{PreemptNo, PreemptYes} {
		simulate(t, func(s *sim, p profile, _ int64) {
			s.run(30 * time.Second)
			// A preempting master advertises before it acquires, so the old one
			// is silent by then or shortly after. CARP nodes that start together
			// have nothing else to keep them apart.
			bound := time.Duration(0)
			if preempt == PreemptYes || p.name != "vrrp3" {
				bound = instant
			}
			s.settled(bound)
		}, func(_ int, c *GroupConfig) { c.Preempt = preempt })
	}
}

// Loss alone can make two masters; the first advertisement of the better one
// that gets through must end it (checked at each delivery).
func TestSimulationLoss(t *testing.T) {
	simulate(t, func(s *sim, p profile, seed int64) {
		s.loss = 0.1 + 0.4*float64(seed%5)/5
		s.run(60 * time.Second)
		s.loss = 0
		s.run(s.now + 20*p.every)
		if s.serving != 1 {
			s.fail("%d nodes serve", s.serving)
		}
	}, nil)
}

// Stalls: the lease bounds how long a stopped master's addresses stay, and when
// it goes on it is silent at once.
func TestSimulationStalls(t *testing.T) {
	simulate(t, func(s *sim, p profile, _ int64) {
		for i := range 20 {
			n := s.nodes[s.rnd.Intn(len(s.nodes))]
			s.at(time.Duration(5+3*i)*time.Second, func() {
				if n.g != nil && n.s.now >= n.stall {
					n.freeze(time.Duration(s.rnd.Int63n(int64(4 * p.down))))
				}
			})
		}
		s.run(100 * time.Second)
		s.settled(p.leaseOverlap())
	}, nil)
}

// Nodes die and come back.
func TestSimulationRestarts(t *testing.T) {
	simulate(t, func(s *sim, p profile, _ int64) {
		for i := range 15 {
			n := s.nodes[s.rnd.Intn(len(s.nodes))]
			down := time.Duration(10+s.rnd.Intn(4000)) * ms
			s.at(time.Duration(8+5*i)*time.Second, func() {
				if n.g == nil {
					return
				}
				n.kill()
				s.at(s.now+down, func() {
					n.serves = false // what a daemon does first when it starts
					n.boot()
				})
			})
		}
		s.run(95 * time.Second)
		s.settled(p.leaseOverlap())
	}, nil)
}

// Partitions make two masters for as long as they last, one-way cuts too. What
// is checked is the end: one master, an interval after the network is whole.
func TestSimulationPartitions(t *testing.T) {
	simulate(t, func(s *sim, p profile, seed int64) {
		a, b := 0, 1
		s.run(10 * time.Second)
		s.cut[[2]int{a, b}] = true
		if seed%3 == 0 {
			s.cut[[2]int{b, a}] = true
		}
		s.run(20 * time.Second)
		s.dual, s.worst = 0, 0
		clear(s.cut)
		s.run(30 * time.Second)
		s.settled(p.every + 2*simDelay + simKernel)
	}, nil)
}

// A one-way cut on one of the two links never makes halves that both serve, and
// a whole master remains.
func TestSimulationHalfCut(t *testing.T) {
	simulate(t, func(s *sim, _ profile, _ int64) {
		s.run(10 * time.Second)
		s.dual, s.worst = 0, 0 // the start is not what this is about
		for range 40 {
			for _, n := range s.nodes {
				if n.g == nil {
					continue
				}
				// Node 1 loses every advertisement on router 0 only: emulate by
				// letting its router expire without hearing anything there.
				if n.id == 1 && n.g.phase == phaseIdle {
					n.g.routers[0].Step(s.now, RouterEvent{Kind: RouterExpire})
				}
			}
			s.run(s.now + 100*ms)
		}
		s.settled(0)
	}, nil)
}

// Planned hand-overs by an order to the successor never overlap.
func TestSimulationHandOver(t *testing.T) {
	simulate(t, func(s *sim, _ profile, _ int64) {
		s.run(10 * time.Second)
		s.dual, s.worst = 0, 0
		for range 20 {
			var from, to *simNode
			for _, n := range s.nodes {
				if n.serves {
					from = n
				} else {
					to = n
				}
			}
			if from == nil || to == nil {
				s.fail("nobody to hand over")
			}
			from.step(Event{Kind: EvResign})
			fenced := from.busy
			s.at(fenced+time.Duration(s.rnd.Intn(5))*ms, func() { to.step(Event{Kind: EvTakeover, Term: from.term + to.term}) })
			began := s.now
			for !to.serves {
				if s.now-began > time.Second {
					s.fail("no takeover")
				}
				s.run(s.now + ms)
			}
			if s.now-began > 40*ms {
				s.fail("hand-over took %v", s.now-began)
			}
			s.run(s.now + 3*time.Second)
		}
		s.settled(0)
	}, nil)
}

// sayReady is what the node's client knows of its members: whether they could take
// over, and, where the clients tell each other, how much they are demoted.
func (n *simNode) sayReady() {
	r := Ready{InSync: true, PeerReady: n.peers}
	if n.peers && n.s.told {
		r.PeerTold, r.PeerDemotion, r.WillingDemotion = true, maxDemotion, maxDemotion
		for id, w := range n.words {
			if id == n.id {
				continue
			}
			r.PeerDemotion = min(r.PeerDemotion, w.demotion)
			if n.told == Master && !w.unwilling {
				r.WillingDemotion = min(r.WillingDemotion, w.demotion)
			}
		}
	}
	n.step(Event{Kind: EvReady, Client: 1, Ready: r})
}

// tellOthers brings what the node is told to have become to the other clients.
func (n *simNode) tellOthers() {
	for _, to := range n.s.nodes {
		if to == n || to.words == nil {
			continue
		}
		to.later(n.s.now+time.Duration(1+n.s.rnd.Intn(4))*ms, func() {
			to.words[n.id] = n.g.told
			to.sayReady()
		})
	}
}

// successor is the node to which a client would hand over.
func (n *simNode) successor() *simNode {
	to := n.s.nodes[(n.id+1)%len(n.s.nodes)]
	if !n.s.told {
		return to
	}
	for _, o := range n.s.nodes {
		if o != n && n.words[o.id].demotion < n.words[to.id].demotion {
			to = o
		}
	}
	return to
}

// lesser watches for how long a master stays that knows of a less demoted node
// which could take over.
func (s *sim) lesser() {
	for _, n := range s.nodes {
		least := n.g.demotion
		for _, o := range s.nodes {
			least = min(least, o.g.demotion)
		}
		if !n.serves || !n.peers || least == n.g.demotion {
			n.lesserFrom = s.now
		}
		s.lesserFor = max(s.lesserFor, s.now-n.lesserFrom)
	}
}

// Something is tracked that comes and goes on each node, or on all at once, while
// peers are ready and are not. A master hands over for a cause only, never two
// serve. Where the members tell each other how much they are demoted it goes to one
// that is less demoted only, and no master stays for long that knows of such a one.
func TestSimulationDemotions(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(map[bool]string{false: "untold", true: "told"}[told], func(t *testing.T) {
			simulate(t, func(s *sim, p profile, seed int64) {
				if told == (seed%4 < 2) { // half of the seeds, even and odd, for either: they are long
					simulateDemotions(s, p, seed, told)
				}
			}, nil)
		})
	}
}

func simulateDemotions(s *sim, p profile, seed int64, told bool) {
	s.run(10 * time.Second)
	s.dual, s.worst, s.changes, s.orders, s.told = 0, 0, 0, true, told
	for _, n := range s.nodes {
		n.words, n.told, n.lesserFrom = make([]fitness, len(s.nodes)), n.g.public, s.now
	}
	causes, rises := 0, 0
	set := func(n *simNode, by int) {
		id := "track:x"
		if by == 0 && n.g.demotions.has(id) {
			causes++
			n.step(Event{Kind: EvUndemote, Demotion: Demotion{ID: id}})
		} else if by > 0 {
			if by > n.g.demotion {
				rises++
			}
			causes++
			n.step(Event{Kind: EvDemote, Demotion: Demotion{ID: id, By: by}})
		}
	}
	ready := func(n *simNode, yes bool) {
		causes++
		n.peers = yes
		n.sayReady()
	}
	for i := range 30 {
		at := s.now + time.Duration(i)*700*ms + time.Duration(s.rnd.Intn(700))*ms
		by := s.rnd.Intn(2)
		if told {
			by *= 1 + s.rnd.Intn(2)
		}
		n := s.nodes[s.rnd.Intn(len(s.nodes))]
		if seed%2 == 0 { // what is tracked is itself gone: all notice within three probes
			for _, n := range s.nodes {
				s.at(at+time.Duration(s.rnd.Intn(300))*ms, func() { set(n, by) })
			}
		} else {
			s.at(at, func() { set(n, by) })
		}
		who, yes := s.nodes[s.rnd.Intn(len(s.nodes))], s.rnd.Intn(3) > 0
		s.at(at+time.Duration(s.rnd.Intn(700))*ms, func() { ready(who, yes) })
	}
	s.run(s.now + 25*time.Second)
	for _, n := range s.nodes {
		ready(n, true)
	}
	s.run(s.now + 10*time.Second)
	// CARP tells of a demotion itself: so a backup may take over while another
	// is handed to, whose addresses may be on their way into the kernel; and if
	// the successor is demoted too, one that is not follows it.
	bound, limit := time.Duration(0), rises
	if told {
		limit = causes
	}
	if p.name != "vrrp3" {
		bound, limit = instant+simKernel, limit*(len(s.nodes)-1)
	}
	s.settled(bound)
	if s.changes > limit {
		s.fail("%d changes of master for %d rises and %d causes", s.changes, rises, causes)
	}
	if told && s.lesserFor > 3*p.down {
		s.fail("a master stayed for %v that knew of a less demoted one", s.lesserFor)
	}
	was := s.changes
	s.run(s.now + 10*time.Second)
	if s.changes != was {
		s.fail("%d changes of master without a cause", s.changes-was)
	}
}
