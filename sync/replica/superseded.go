package replica

import (
	"net/netip"
	"time"

	"sasyncd/sync/sadb"
)

// SupersededIdle is for how long nothing came in on a replicated SA that is collected, and
// for how long its successor stands.
const SupersededIdle = 30 * time.Second

// tunnelKey is what the SAs of both directions of a tunnel have in common, as
// far as the kernel tells: all it knows of a policy's choice of an SA.
type tunnelKey struct {
	low, high netip.Addr // the two ends, sorted
	proto     uint8
	mode      sadb.Mode
	reqid     uint32
	ifID      uint32
}

func tunnelOf(a, b netip.Addr, proto uint8, mode sadb.Mode, reqid, ifID uint32) tunnelKey {
	if b.Less(a) {
		a, b = b, a
	}
	return tunnelKey{a, b, proto, mode, reqid, ifID}
}

// tunnelUse is what is known of one tunnel.
type tunnelUse struct {
	in, out  int           // SAs made here
	since    time.Duration // when the first of them was made, since the publisher began
	heard    time.Duration // when a replicated inbound SA was used last, likewise
	policies int           // outbound ones that leave the choice of the SA to the kernel
	named    bool          // one names a replicated SA
}

// Superseded returns the replicated SAs that are not needed any more, as far as
// that is sure: where several tunnels look the same to the kernel, as many must
// have been made anew as there are policies.
func (p *Publisher) Superseded(now time.Time) []sadb.SAKey {
	if p.imported == 0 || len(p.sas) == p.imported {
		return nil
	}
	at := now.Sub(p.began)
	tunnels := make(map[tunnelKey]*tunnelUse)
	fresh := make(map[uint64]bool) // what SAs made here protect
	use := func(k tunnelKey) *tunnelUse {
		if tunnels[k] == nil {
			tunnels[k] = &tunnelUse{}
		}
		return tunnels[k]
	}
	keyOf := func(sa *sadb.SA) tunnelKey {
		return tunnelOf(sa.Src, sa.Key.Dst, sa.Key.Proto, sa.Mode, sa.Reqid, sa.IfID)
	}
	for _, e := range p.sas {
		p.Item()
		t := use(keyOf(e.sa))
		switch {
		case e.imported:
			if e.sa.Dir == sadb.DirIn && e.heard > t.heard {
				t.heard = e.heard
			}
			continue
		case e.sa.Dir == sadb.DirIn:
			t.in++
		default:
			t.out++
		}
		if t.in+t.out == 1 || e.born < t.since {
			t.since = e.born
		}
		fresh[coverOf(e.sa)] = true
	}
	for _, e := range p.policies {
		p.Item()
		if e.policy.Key.Dir != sadb.DirOut {
			continue
		}
		for _, tmpl := range e.policy.Templates {
			t := use(tunnelOf(tmpl.Src, tmpl.Dst, tmpl.Proto, tmpl.Mode, tmpl.Reqid, e.policy.Key.IfID))
			if tmpl.SPI == 0 {
				t.policies++
			} else if old := p.sas[sadb.SAKey{Dst: tmpl.Dst, SPI: tmpl.SPI, Proto: tmpl.Proto,
				Mark: e.policy.Key.Mark}]; old != nil && old.imported {
				t.named = true
			}
		}
	}
	var out []sadb.SAKey
	for k, e := range p.sas {
		p.Item()
		if !e.imported || e.retained || e.sa.Static() { // the operator's file says when static ones go
			continue
		}
		t := use(keyOf(e.sa))
		if t.in == 0 || t.out == 0 || t.out < t.policies || t.named || !fresh[coverOf(e.sa)] ||
			at-t.since < SupersededIdle || at-t.heard < SupersededIdle {
			continue
		}
		out = append(out, k)
	}
	return out
}

// Adopt marks as replicated what a new master found in its kernel and did not
// make: what it held as a standby, and what another life of this process has
// installed.
func (p *Publisher) Adopt(now time.Time, was *Receiver, imported func(*sadb.SA) bool) {
	for k, e := range p.sas {
		p.Item()
		if w := was.want[k]; w != nil {
			e.rate.Remember(&w.rate)
		}
		if was.WasHeld(k) || imported != nil && imported(e.sa) {
			p.take(now, e)
		}
	}
}

// TakeSA marks a published SA as replicated.
func (p *Publisher) TakeSA(now time.Time, k sadb.SAKey) {
	if e := p.sas[k]; e != nil {
		p.take(now, e)
	}
}

func (p *Publisher) take(now time.Time, e *pubSA) {
	if !e.imported {
		e.imported, e.heard = true, now.Sub(p.began)
		p.imported++
	}
}

// Named returns the published SA that an announcement without its mark means.
func (p *Publisher) Named(k sadb.SAKey) *sadb.SA {
	if e := p.sas[k]; e != nil {
		return e.sa
	}
	for other, e := range p.sas {
		p.Item()
		if k.Mark = other.Mark; k == other {
			return e.sa
		}
	}
	return nil
}
