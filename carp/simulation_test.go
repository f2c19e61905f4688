package carp

import (
	"testing"
	"time"
)

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
				if n.id == 1 && n.g.step.phase == phaseIdle {
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
			s.at(fenced+time.Duration(s.rnd.Intn(5))*ms,
				func() { to.step(Event{Kind: EvTakeover, Term: from.term + to.term}) })
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
			to.words[n.id] = n.g.fit.told
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
		least := n.g.fit.demotion
		for _, o := range s.nodes {
			least = min(least, o.g.fit.demotion)
		}
		if !n.serves || !n.peers || least == n.g.fit.demotion {
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
		if by == 0 && n.g.fit.demotions.has(id) {
			causes++
			n.step(Event{Kind: EvUndemote, Demotion: Demotion{ID: id}})
		} else if by > 0 {
			if by > n.g.fit.demotion {
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
