package carp

import (
	"cmp"
	"net/netip"
	"time"
)

// What differs from protocol to protocol: timing, and who is the better one.
// Sources for CARP: carp(4) of OpenBSD and of FreeBSD, ucarp(8).

const (
	carpUnit  = time.Second / 256 // of advskew
	carpLeave = 255               // advbase and advskew of a bow-out

	// maxFoldedSkew bounds the sum of advskew and demotion that FreeBSD sends.
	maxFoldedSkew = 240

	// Nodes that all may take over at once wait for bowWait, so that one whom
	// the leaving master has chosen is heard first, and for a part of bowStagger
	// by advskew.
	bowWait    = 10 * time.Millisecond
	bowStagger = 50 * time.Millisecond
)

// Dialect is how demotion travels in CARP.
type Dialect uint8

// The dialects.
const (
	OpenBSD Dialect = iota // in a byte of its own, compared before timing
	FreeBSD                // added to advskew, up to 240; ucarp takes part
)

// CARPRouter describes a CARP virtual host. Base is in seconds, 0 to 254, 0 for
// intervals below a second (OpenBSD only); skew is in 1/256 s, 0 to 254.
func CARPRouter(id, base, skew uint8, d Dialect) RouterConfig {
	return RouterConfig{Proto: CARP, ID: id, Base: base, Skew: skew, Dialect: d, Interval: carpInterval(base, skew)}
}

// carpInterval is the time between advertisements with base and skew.
func carpInterval(base, skew uint8) time.Duration {
	if base == 0 && skew == 0 {
		return carpUnit
	}
	return time.Duration(base)*time.Second + time.Duration(skew)*carpUnit
}

// CARPAdvert is what the machine needs to know of a CARP advertisement. signed
// says that it carried a valid trailer, so its sender is one of ours.
func CARPAdvert(from netip.Addr, base, skew, demotion uint8, signed bool) Advert {
	a := Advert{From: from, Base: base, Skew: skew, Demotion: demotion, Signed: signed, Priority: 1,
		Interval: carpInterval(base, skew)}
	if base == carpLeave && skew == carpLeave {
		a.Priority = 0
	}
	return a
}

// skewNow is the advskew that is advertised, demotion included where the
// dialect has no other place for it.
func (r *Router) skewNow() uint8 {
	if r.cfg.Dialect != FreeBSD || r.demotion == 0 {
		return r.cfg.Skew
	}
	return uint8(max(int(r.cfg.Skew), min(maxFoldedSkew, int(r.cfg.Skew)+r.demotion)))
}

// every is the time between own advertisements.
func (r *Router) every() time.Duration {
	if r.cfg.Proto != CARP {
		return r.cfg.Interval
	}
	return carpInterval(r.cfg.Base, r.skewNow())
}

// Skew delays a takeover the more, the lesser the node. VRRPv3 scales it by the
// interval (RFC 9568 6.1), VRRPv2 does not (RFC 3768 6.1). Divided last, so that
// short intervals keep it. In CARP it is advskew.
func (r *Router) Skew() time.Duration {
	unit := r.learned
	switch r.cfg.Proto {
	case CARP:
		return time.Duration(r.cfg.Skew) * carpUnit
	case VRRP2:
		unit = time.Second
	}
	return time.Duration(256-int(r.Priority())) * unit / 256
}

// Down is the time without advertisements after which the master is gone. CARP
// judges by its own base; only below a second, where a lesser master may be
// slower than three of our intervals, by the slower of the two.
func (r *Router) Down() time.Duration {
	switch {
	case r.cfg.Proto != CARP:
		return 3*r.learned + r.Skew()
	case r.cfg.Base == 0:
		return 3 * max(r.every(), r.learned)
	}
	return 3*time.Duration(r.cfg.Base)*time.Second + r.Skew()
}

// stale is the time since the last own advertisement after which a peer may
// have taken over: the shortest down interval that any peer can have, less half
// an interval for the way there.
func (r *Router) stale() time.Duration {
	if r.cfg.Proto == CARP && r.cfg.Base > 0 {
		return time.Duration(r.cfg.Base) * time.Second * 5 / 2
	}
	return r.every() * 5 / 2
}

// Stale is the time without own advertisements after which a peer may have taken
// over.
func (c RouterConfig) Stale() time.Duration {
	if c.Proto == CARP && c.Base == 0 && c.Dialect == FreeBSD {
		c.Skew = maxFoldedSkew // as demotion may slow it down
	}
	return NewRouter(c).stale()
}

// compare is positive if the sender of a is the better master, negative if we
// are, 0 if neither.
func (r *Router) compare(a Advert) int {
	if r.cfg.Proto != CARP {
		return cmp.Compare(a.Priority, r.Priority())
	}
	if r.cfg.Dialect == OpenBSD && int(a.Demotion) != r.demotion {
		return cmp.Compare(r.demotion, int(a.Demotion))
	}
	return cmp.Compare(r.every(), a.Interval)
}

// yields reports whether a MASTER makes room for the sender of a, and whether
// that one is known to stay master when it hears us. Between equals VRRP and
// nodes of ours compare addresses. CARP has no rule for that which all follow:
// BSD yields, ucarp compares addresses in its own way, so to others we yield.
func (r *Router) yields(now time.Duration, a Advert) (yes, stays bool) {
	switch c := r.compare(a); {
	case c > 0:
		return true, true
	case c < 0:
		return false, false
	case r.cfg.Proto == CARP && !a.Signed:
		return now >= r.insistTo, false
	}
	better := r.known(a).Less(a.From)
	return better, better
}

// known is our address as the sender of a knows it, by which it compares itself
// with us: to members in several networks we speak from several addresses.
func (r *Router) known(a Advert) netip.Addr {
	if a.To.IsValid() {
		return a.To
	}
	return r.src
}

// insist follows a takeover. If the master that fell silent was an equal to whom
// we had yielded a moment before, it had yielded to us as well: ucarp does, when
// it reads our last advertisement a second late. Yielding again would go on like
// that for ever, so for one down interval we do not.
func (r *Router) insist(now time.Duration) {
	if r.tie.IsValid() && r.tie == r.from && r.heardAt-r.tieAt <= 2*r.every() && !r.bowed {
		r.insistTo = now + r.Down()
	}
	r.tie = netip.Addr{}
}

// replaces says why a BACKUP replaces the master that sent a without waiting
// for it to fall silent, "" if it does not. In VRRP there is no such thing.
func (r *Router) replaces(a Advert) string {
	switch {
	case r.cfg.Proto != CARP:
		return ""
	case r.cfg.Dialect == OpenBSD && int(a.Demotion) > r.demotion:
		return "master is demoted"
	case r.cfg.Base > 0 && r.Down() < a.Interval:
		return "master advertises too slowly"
	case r.preempt && r.compare(a) < 0:
		return "preempt"
	}
	return ""
}

// leaveTime is how long after a resignation a BACKUP takes over.
func (r *Router) leaveTime() time.Duration {
	if r.cfg.Proto != CARP {
		return r.Skew()
	}
	return min(bowWait, r.every()) + time.Duration(r.cfg.Skew)*bowStagger/256
}

// tieTime is for what longer a node waits that yielded to an equal one. That
// one may have yielded to us in the same moment; then not both may come back in
// the same moment too.
func (r *Router) tieTime(a Advert) time.Duration {
	if r.cfg.Proto == CARP && r.compare(a) == 0 && r.known(a).Less(a.From) {
		return min(inFlight, r.every())
	}
	return 0
}

// learn takes over the interval of the master where the protocol says so.
func (r *Router) learn(a Advert) {
	switch {
	case r.cfg.Proto == VRRP3 && a.Interval > 0:
		r.learned = a.Interval
	case r.cfg.Proto == CARP && r.cfg.Base == 0 && a.Base == 0:
		r.learned = a.Interval
	}
}

// say is an advertisement with our present standing.
func (r *Router) say() RouterAction {
	a := RouterAction{Kind: RouterSend, Priority: r.Priority()}
	if r.cfg.Proto == CARP {
		a.Base, a.Skew = r.cfg.Base, r.skewNow()
		if r.cfg.Dialect == OpenBSD {
			a.Demotion = uint8(r.demotion)
		}
	}
	return a
}

// leave is the advertisement of a node that resigns. Demotion is at its
// highest, so that a demoted master does not take it for a better one.
func (r *Router) leave() RouterAction {
	a := RouterAction{Kind: RouterSend}
	if r.cfg.Proto == CARP {
		a.Base, a.Skew = carpLeave, carpLeave
		if r.cfg.Dialect == OpenBSD {
			a.Demotion = maxDemotion
		}
	}
	return a
}
