package engine

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"sasyncd/carp"
	"sasyncd/carp/packet"
)

// Type of service of CARP: low delay, as OpenBSD and ucarp send.
const tosCARP = 0x10

// carpWire is what a CARP virtual host needs to know of its messages.
//
// The counter is none in practice. OpenBSD sends one random number per boot and
// knows its own messages by it, should a network loop or an attacker send them
// back. FreeBSD and ucarp draw a new one for each message until they have heard
// somebody, and from then on count up from what they heard last.
type carpWire struct {
	sign, also *packet.CARPKey // without and with link-local addresses, or the other way around
	dialect    carp.Dialect
	counter    uint64
	heard      bool
	old        *carpWire // before a reload: still accepted until the new one is heard
}

func newCARPWire(r *Router) *carpWire {
	set := r.Hashed
	if len(set) == 0 {
		set = r.VIPs
	}
	key := func(local bool) *packet.CARPKey { return packet.NewCARPKey([]byte(r.Auth), r.Machine.ID, set, local) }
	free := r.Machine.Dialect == carp.FreeBSD
	w := &carpWire{sign: key(free), also: key(!free), dialect: r.Machine.Dialect}
	w.counter = randomCounter()
	return w
}

func randomCounter() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:])
}

// next is the counter of the next message.
func (w *carpWire) next() uint64 {
	switch {
	case w.dialect == carp.OpenBSD:
	case w.heard:
		w.counter++
	default:
		w.counter = randomCounter()
	}
	return w.counter
}

// verify reports whether the digest of m is right, with link-local addresses or
// without.
func (w *carpWire) verify(m *packet.CARP) bool {
	if w.sign.Verify(m) || w.also.Verify(m) {
		w.old = nil
		return true
	}
	return w.old != nil && (w.old.sign.Verify(m) || w.old.also.Verify(m))
}

// inherit follows a reload. As the digest covers pass phrase and addresses, the
// members would not hear each other until the last one was reloaded.
func (w *carpWire) inherit(old *carpWire) {
	w.counter, w.heard = old.counter, old.heard
	old.old = nil
	w.old = old
}

// own reports whether m, whose digest is right, is a message of ours.
func (w *carpWire) own(m *packet.CARP) bool {
	return w.dialect == carp.OpenBSD && m.Counter == w.counter
}

// follow takes note of the counter of another node.
func (w *carpWire) follow(m *packet.CARP) {
	if w.dialect == carp.FreeBSD {
		w.counter, w.heard = m.Counter, true
	}
}

// receiveCARP judges a message for a CARP virtual host.
func (e *Engine) receiveCARP(r *router, payload []byte, src netip.Addr) (carp.Advert, bool) {
	m := &e.thread.carp
	if err := m.Parse(payload); err != nil {
		e.refuse(r, warnInvalid, err.Error(), src)
		return carp.Advert{}, false
	}
	signed, ok := e.authentic(r, payload[:len(payload)-len(m.Trailer)], m.Trailer, src)
	if !ok {
		return carp.Advert{}, false
	}
	if !r.carp.verify(m) {
		r.badDigest.Add(1)
		e.refuse(r, warnAuth, "pass, vhid or set of addresses differs", src)
		return carp.Advert{}, false
	}
	if r.carp.own(m) {
		e.refuse(r, warnOwn, "it is our own, sent back or sent again by somebody", src)
		return carp.Advert{}, false
	}
	r.carp.follow(m)
	return carp.CARPAdvert(src, m.AdvBase, m.AdvSkew, m.Demotion, signed), true
}

// appendCARP appends the message for action a, to be sent from an address.
func (e *Engine) appendCARP(b []byte, r *router, a carp.Action, from netip.Addr) []byte {
	m := &e.thread.carpOut
	*m = packet.CARP{ID: r.Machine.ID, AdvSkew: a.Skew, AdvBase: a.Base, Demotion: a.Demotion, Counter: r.carp.next()}
	m.Digest = r.carp.sign.Digest(m.Counter)
	at := len(b)
	b = m.Append(b)
	return e.appendTrailer(b, b[at:], r, from)
}
