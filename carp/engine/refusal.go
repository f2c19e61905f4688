package engine

import (
	"log/slog"
	"net/netip"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/link"
)

// warning is a kind of thing that is wrong with what others send.
type warning uint8

const (
	warnVersion warning = iota
	warnCARP
	warnInterval
	warnAddresses // taken all the same
	warnAuth
	warnTTL
	warnInvalid
	warnTrailer
	warnTrailerTaken // by the mode of auth; not counted
	warnOwn
	warnVRRP
	warnCast
	warnPeer
	warnMAC // taken all the same
	warnings
)

// kind names a warning for clients.
func (w warning) kind() string {
	switch w {
	case warnVersion:
		return api.RefusedVersion
	case warnCARP, warnVRRP:
		return api.RefusedProtocol
	case warnInterval:
		return api.RefusedInterval
	case warnAddresses:
		return api.RefusedAddresses
	case warnAuth, warnTrailer:
		return api.RefusedAuth
	case warnTTL:
		return api.RefusedTTL
	case warnOwn:
		return api.RefusedOwn
	case warnCast:
		return api.RefusedCast
	case warnPeer:
		return api.RefusedPeer
	case warnMAC:
		return api.RefusedMAC
	}
	return api.RefusedInvalid
}

// refusal counts one kind.
type refusal struct {
	count uint64
	last  time.Duration
	peer  netip.Addr
	text  string
	said  pace
}

// note counts a refusal for `carpctl doctor`. The text says what is wrong with
// the advertisement.
func (r *router) note(w warning, now time.Duration, peer netip.Addr, text string) {
	x := &r.refusals[w]
	x.count++
	x.last, x.peer, x.text = now, peer, text
}

// refuse counts an advertisement that is not taken, and says so as often as is
// good for the log.
func (e *Engine) refuse(r *router, w warning, why string, from netip.Addr) {
	now := link.BootTime()
	r.dropped.Add(1)
	r.note(w, now, from, why)
	if e.maySay(r, w, now, from) {
		e.say(slog.LevelWarn, "advertisement refused", "instance", r.Instance, "peer", from, "reason", why,
			"so_far", r.refusals[w].count)
	}
}

// doubt is refuse for what is taken all the same.
func (e *Engine) doubt(r *router, w warning, what string, from netip.Addr) {
	now := link.BootTime()
	r.note(w, now, from, what)
	if e.maySay(r, w, now, from) {
		e.say(slog.LevelWarn, "advertisement taken with a doubt", "instance", r.Instance, "peer", from, "reason", what)
	}
}

// Whoever can send to us can have a line written: how many is limited by these.
const (
	sayAgain  = 10 * time.Minute // about one sender and one kind
	sayOther  = time.Minute      // until a further sender takes the place of one of senders
	senders   = 4                // places for each router and kind
	sayBurst  = 60               // lines of all routers and kinds
	sayRefill = time.Second      // for one of them
)

// maySay reports whether a line about a sender may be written now.
func (e *Engine) maySay(r *router, w warning, now time.Duration, from netip.Addr) bool {
	return r.refusals[w].said.may(now, from, sayAgain, &e.thread.lines)
}

// pace remembers when something was said about which senders. Each has its own
// time, so that one forged frame does not hide what is wrong with a member.
type pace [senders]struct {
	from netip.Addr
	at   time.Duration // 0: free
}

// may reports whether a line about a sender may be written, which is not if one
// was within the time again, nor if all places have been taken within sayOther,
// nor if the bucket is empty.
func (p *pace) may(now time.Duration, from netip.Addr, again time.Duration, b *bucket) bool {
	place := &p[0]
	for i := range p {
		s := &p[i]
		if s.at != 0 && s.from == from {
			place = s
			break
		}
		if s.at < place.at {
			place = s
		}
	}
	wait := sayOther
	if place.from == from {
		wait = again
	}
	if place.at != 0 && now-place.at < wait || !b.take(now) {
		return false
	}
	place.from, place.at = from, max(now, 1)
	return true
}

// bucket holds lines that may be written. The zero bucket is full.
type bucket struct {
	used int
	at   time.Duration // of the latest refill
}

func (b *bucket) take(now time.Duration) bool {
	if n := int((now - b.at) / sayRefill); n > 0 {
		b.used, b.at = max(b.used-n, 0), b.at+time.Duration(n)*sayRefill
	}
	if b.used >= sayBurst {
		return false
	}
	b.used++
	return true
}

// heard is what was told of the other masters of a router.
type heard struct {
	told   netip.Addr    // to clients
	again  time.Duration // not before this is told of another one
	logged netip.Addr
	said   pace
}

// Between events and lines about one router. Who is heard then is told, so that
// the latest is always known in the end.
const (
	heardTold = time.Second
	heardSaid = time.Minute
)

// peerHeard tells that another master is heard.
func (e *Engine) peerHeard(r *router, now time.Duration, from netip.Addr) {
	h := &r.heard
	if h.told != from && now >= h.again {
		h.told, h.again = from, now+heardTold
		m := api.Message{Event: api.EventPeer, Group: r.group.name, Instance: r.Instance, Peer: from}
		e.broadcast(r.group, m, false)
	}
	if h.logged != from && h.said.may(now, from, heardSaid, &e.thread.lines) {
		h.logged = from
		e.say(slog.LevelInfo, "master heard", "group", r.group.name, "instance", r.Instance, "peer", from)
	}
}
