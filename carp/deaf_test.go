package carp

import (
	"slices"
	"testing"
	"time"
)

// network drives a script with what comes over the wire: advertisements of a
// master and answers of a witness, both in their rhythm, except during a cut.
type network struct {
	*script
	every  time.Duration // between advertisements
	probe  time.Duration // between requests
	lost   time.Duration // without an answer, the witness counts as not reachable
	cut    time.Duration // the wire is, from then on
	back   time.Duration // it is
	dies   time.Duration // the master does
	proof  time.Duration // latest answer
	missed bool
}

// run lets time pass until end, or until the group wins: it returns when, or
// Never.
func (n *network) run(end time.Duration) time.Duration {
	n.t.Helper()
	const step = 5 * ms
	for at := n.now + step; at <= end; at += step {
		n.to(at)
		open := at < n.cut || at >= n.back
		// The witness answers first: that is the harder order.
		switch {
		case at%n.probe != 0:
		case open:
			n.proof, n.missed = at, false
			n.do(Event{Kind: EvWitness, Witness: true, Proof: at})
		case at-n.proof >= n.lost && !n.missed:
			n.missed = true
			n.do(Event{Kind: EvWitness})
		}
		if open && at < n.dies && at%n.every == n.every/2/step*step {
			for i := range n.g.routers {
				n.do(Event{Kind: EvAdvert, Router: i, Advert: Advert{From: highAddr, Priority: 200, Interval: n.every}})
			}
		}
		if slices.Contains(n.log, "term 1") {
			return at
		}
	}
	return Never
}

func wired(t *testing.T, every time.Duration) *network {
	t.Helper()
	cfg := twoRouters()
	cfg.Witness = true
	for i := range cfg.Routers {
		cfg.Routers[i].Interval = every
	}
	p := profile{every: every}
	return &network{script: start(t, cfg), every: every, probe: p.probeEach(), lost: p.probeLost(), dies: Never}
}

// A node whose wire was cut, for whatever time, does not take over from a master
// that lives, although the witness answers before the master advertises again.
func TestWitnessReturn(t *testing.T) {
intervals:
	for _, every := range []time.Duration{10 * ms, 40 * ms, 100 * ms, 200 * ms, time.Second} {
		down := wired(t, every).g.down()
		step := max(every/8/(5*ms)*5*ms, 5*ms)
		for phase := time.Duration(0); phase < every; phase += step {
			for cut := every; cut < max(2*down, 1500*ms); cut += step {
				n := wired(t, every)
				n.cut = 4*down/n.every*n.every + 2*time.Second + phase
				n.back = n.cut + cut
				if at := n.run(n.back + 3*down); at != Never {
					t.Errorf("interval %v: the wire was cut at %v for %v: took over from a live master %v after it "+
						"was back",
						every, n.cut, cut, at-n.back)
					continue intervals
				}
			}
		}
	}
}

// If the master died meanwhile, the node that returns takes over when it has
// heard the wire for a down interval, and not before.
func TestWitnessReturnToNobody(t *testing.T) {
	for _, every := range []time.Duration{100 * ms, 200 * ms, time.Second} {
		for _, cut := range []time.Duration{4, 6, 20} { // intervals
			n := wired(t, every)
			n.cut = 6*every + 2*time.Second
			n.back = n.cut + cut*every
			n.dies = n.cut
			down := n.g.down()
			at := n.run(n.back + 5*down)
			if at == Never || at < n.back+down || at > n.back+down+2*n.probe {
				t.Errorf("interval %v, cut for %v: took over at %v after the wire was back, not at %v", every,
					cut*every, at-n.back, down)
			}
		}
	}
}

// Where the wire is not cut the witness costs nothing: a down interval, or what
// its rhythm allows if that is longer.
func TestWitnessInTime(t *testing.T) {
	for _, every := range []time.Duration{10 * ms, 40 * ms, 100 * ms, 200 * ms, time.Second} {
		n := wired(t, every)
		n.dies = 2*time.Second + 6*every
		down := n.g.down()
		at := n.run(n.dies + 5*down + time.Second)
		if limit := max(down, 300*ms+2*n.probe); at == Never || at > n.dies+limit+10*ms {
			t.Errorf("interval %v: took over %v after the master died, not within %v", every, at-n.dies, limit)
		}
	}
}

// The word of a master that resigned is old after a cut: somebody may have
// followed it meanwhile, and has to be fenced if not heard.
func TestWitnessReturnAfterResignation(t *testing.T) {
	n := wired(t, 200*ms)
	n.g.inhibit.notBefore = 4 * time.Second // after a failure
	n.cut, n.back, n.dies = 3*time.Second, 6*time.Second, 3*time.Second
	n.run(2950 * ms)
	for i := range n.g.routers {
		n.heard(i, 0)
	}
	if at := n.run(10 * time.Second); at == Never || at < n.back+n.g.down()-n.probe {
		t.Fatalf("took over %v after the wire was back", at-n.back)
	}
	if n.g.step.why != ReasonTimedOut {
		t.Errorf("reason %q", n.g.step.why)
	}
}
