package carp

import "time"

// What a group does when its members may be apart (`when-split`).

const (
	whyWitness = "witness not reachable"
	whyTraffic = "the other master has the traffic"
	whyUnheard = "the other master does not hear us"

	// unheardAfter is for how many down intervals a lesser master must have
	// been heard.
	unheardAfter = 3
)

// missed is how many thousandths of an interval without an advertisement are
// certainly one that was missed.
const missed = 1500

// coarse is the down interval below which the requests to the witness, 50 ms
// apart, are too far from each other to tell of a cut that matters.
const coarse = 300 * time.Millisecond

// deaf is for how long the wire may have been cut unnoticed: as long as a part of
// the down interval is left in which a master must have been heard.
func (r *Router) deaf() time.Duration { return max(r.Down(), coarse) / 2 }

// silentFrom is the time since which r hears no master.
func (r *Router) silentFrom() time.Duration { return max(r.heardAt, r.restAt) }

// witnesses takes note of what is known of the witness.
//
// Between two answers far from each other the wire may have been cut, so the
// silence of that time proves nothing, and what was heard before it is out of
// date. As after its interface came up (RFC 9568 section 6.4.1), each router then
// has to hear the wire for a down interval.
func (g *Group) witnesses(now time.Duration, ev Event) {
	g.witness.reachable = ev.Witness
	if ev.Witness {
		proof := min(ev.Proof, now)
		for i, r := range g.routers {
			if g.cfg.Witness && proof-g.witness.proofAt > r.deaf() {
				g.router(now, i, RouterEvent{Kind: RouterListen})
			}
		}
		g.witness.proofAt = max(g.witness.proofAt, proof)
	} else if g.cfg.Witness {
		_ = g.resign(now, whyWitness, 0) // the error: not master anyway
	}
}

// witnessed reports whether the silence of the master is known not to be our
// own: since it should have been heard, the witness has been. Who leaves, or is
// replaced while it is heard, is not silent. Where advertisements follow each
// other too fast for the witness, the silence has to last longer: what is left
// of it after an unnoticed cut would be too short otherwise.
func (g *Group) witnessed(now time.Duration) bool {
	if !g.cfg.Witness || g.step.why == whyTakeover {
		return true
	}
	for _, r := range g.routers {
		at := r.silentFrom() + r.learned*missed/1000
		if r.bowed || now <= at {
			continue
		}
		if r.Down() < coarse {
			at = r.silentFrom() + coarse
		}
		if g.witness.proofAt <= at {
			return false
		}
	}
	return true
}

// weigh judges two masters by more than the advertisement a of the other one,
// before r does.
//
// A lesser master that goes on although it should have heard us for long does
// not hear us, and never will: the network passes one direction only. Of the two
// only we can end that.
//
// With `when-split prefer-traffic` the traffic decides. Both may be of this
// mind, and neither knows what the other sees. So the lesser one with traffic
// stays for one down interval, and a better one without gives way when the
// lesser one is still there although it must have heard of us. If both have
// traffic, or one of them does not take part, the election decides after that
// time.
func (g *Group) weigh(now time.Duration, r *Router, a Advert) {
	r.stay, r.give = false, ""
	if g.step.phase != phaseMaster || a.Priority == 0 {
		return
	}
	lasted := time.Duration(0)
	if g.contest.peer.IsValid() {
		lasted = now - g.contest.since
	}
	each := r.every()
	if r.cfg.Proto != VRRP2 {
		each = max(each, a.Interval)
	}
	switch {
	case lasted > unheardAfter*g.down():
		r.give = whyUnheard
	case !g.cfg.PreferTraffic:
	case g.report.Traffic:
		r.stay = lasted < g.down()
	case lasted > each*missed/1000:
		r.give = whyTraffic
	}
}
