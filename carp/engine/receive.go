package engine

import (
	"log/slog"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

// warning is a set of things that are said once per router.
type warning uint16

const (
	warnVersion warning = 1 << iota
	warnCARP
	warnInterval
	warnAddresses
	warnAuth
	warnTTL
	warnInvalid
	warnTrailer
	warnOwn
	warnVRRP
	warnings = iota
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
	}
	return api.RefusedInvalid
}

// refusal counts one kind.
type refusal struct {
	count uint64
	last  time.Duration
	peer  netip.Addr
	text  string
}

// note counts a refusal for `carpctl doctor`.
func (r *router) note(w warning, now time.Duration, peer netip.Addr, text string) {
	x := &r.refusals[bits.TrailingZeros16(uint16(w))]
	x.count++
	x.last, x.peer, x.text = now, peer, text
}

// receive reads everything that has arrived on all interfaces.
func (e *Engine) receive(now time.Duration) {
	for _, p := range e.ports {
		for range drainLimit {
			if p.fd < 0 {
				break
			}
			n, err := unix.Read(p.fd, e.rx[:])
			if err == unix.EINTR || err == unix.ENETDOWN {
				continue // the second is told once when the interface goes down
			}
			if err != nil {
				break
			}
			e.packet(p, now, e.rx[:n])
		}
	}
}

// packet judges one frame and gives what is valid to its group.
func (e *Engine) packet(p *port, now time.Duration, b []byte) {
	f := &e.frame
	if f.Parse(b) != nil || f.Proto != packet.Protocol || len(f.Payload) < 2 {
		return
	}
	family := 0
	if f.SrcIP.Is6() {
		family = 1
	}
	at := p.table[family][f.Payload[1]]
	if at < 0 {
		return // somebody else's
	}
	r := e.routers[at]
	if f.Src == p.mac || f.SrcIP == r.src {
		r.dropped.Add(1)
		if f.Src != p.mac && !r.Virtual {
			r.note(warnOwn, now, f.SrcIP, "another machine advertises from our own address")
		}
		return // our own, sent back by the network
	}
	unicast := !f.DstIP.IsMulticast()
	switch {
	case unicast && (f.DstIP != r.src || !slices.Contains(r.Peers, f.SrcIP)):
		r.dropped.Add(1)
		return
	case !unicast && f.DstIP != r.Router.group():
		return
	case !unicast && f.TTL != packet.TTL:
		e.refuse(r, warnTTL, "advertisement comes from beyond a router", f.SrcIP)
		return
	}
	var a carp.Advert
	ok := false
	switch kind := packet.KindOf(f.Payload); {
	case kind == packet.KindUnknown:
		e.refuse(r, warnInvalid, "advertisement is of an unknown protocol", f.SrcIP)
	case r.carp != nil && kind == packet.KindCARP:
		a, ok = e.receiveCARP(r, f.Payload, f.SrcIP)
	case r.carp != nil:
		e.refuse(r, warnVRRP, "VRRP is spoken with our id on this network", f.SrcIP)
	case kind == packet.KindCARP:
		e.refuse(r, warnCARP, "CARP is spoken with our id on this network", f.SrcIP)
	default:
		a, ok = e.receiveVRRP(r, now, f)
	}
	if !ok {
		return
	}
	r.rx.Add(1)
	e.step(r.group, now, carp.Event{Kind: carp.EvAdvert, Router: r.index, Advert: a})
	if a.Priority != 0 && r.peer != f.SrcIP {
		r.peer = f.SrcIP
		e.peerHeard(r, f.SrcIP)
	}
}

// receiveVRRP judges a message for a VRRP virtual router.
func (e *Engine) receiveVRRP(r *router, now time.Duration, f *packet.Frame) (a carp.Advert, ok bool) {
	v := &e.vrrp
	if err := v.Parse(f.Payload, f.SrcIP, f.DstIP); err != nil {
		e.refuse(r, warnInvalid, err.Error(), f.SrcIP)
		return a, false
	}
	version := uint8(3)
	if r.Machine.Proto == carp.VRRP2 {
		version = 2
	}
	switch {
	case v.Version != version:
		e.refuse(r, warnVersion, "advertisement is of another version of VRRP", f.SrcIP)
		return a, false
	case version == 2 && r.old != nil && r.old.agrees(v) && !r.agrees(v):
		// Ours was reloaded, theirs was not yet.
	case version == 2 && v.Interval != r.Machine.Interval:
		e.refuse(r, warnInterval, "advertisement interval differs", f.SrcIP)
		return a, false
	case version == 2 && !authentic(v, r.Auth):
		e.refuse(r, warnAuth, "authentication differs", f.SrcIP)
		return a, false
	default:
		r.old = nil
	}
	signed := false
	if version == 3 {
		if signed, ok = e.authentic(r, f.Payload[:len(f.Payload)-len(v.Trailer)], v.Trailer, f.SrcIP); !ok {
			return a, false
		}
		if r.Checksum == ChecksumAuto {
			r.checksum = v.Checksum
		}
	}
	same := sameSet(v.Addrs, r.VIPs)
	if !same {
		r.note(warnAddresses, now, f.SrcIP, "peer advertises other addresses")
	}
	if r.warned&warnAddresses == 0 && !same {
		r.warned |= warnAddresses
		e.say(slog.LevelWarn, "peer advertises other addresses", "instance", r.Instance, "peer", f.SrcIP,
			"theirs", slices.Clone(v.Addrs), "ours", r.VIPs)
	}
	return carp.Advert{From: f.SrcIP, Priority: v.Priority, Interval: v.Interval, Signed: signed}, true
}

// refuse counts an advertisement that is not taken, and says so once.
func (e *Engine) refuse(r *router, w warning, why string, from netip.Addr) {
	r.dropped.Add(1)
	r.note(w, bootTime(), from, why)
	if r.warned&w == 0 {
		e.warn(r, w, "advertisement refused", from, "reason", why)
	}
}

// warn says something about a sender, once for each kind.
func (e *Engine) warn(r *router, w warning, text string, from netip.Addr, key, value string) {
	if r.warned&w == 0 {
		r.warned |= w
		e.say(slog.LevelWarn, text, "instance", r.Instance, "peer", from, key, value)
	}
}

// agrees reports whether an advertisement of VRRPv2 fits the settings.
func (r *Router) agrees(v *packet.VRRP) bool {
	return v.Interval == r.Machine.Interval && authentic(v, r.Auth)
}

// authentic checks the simple password of VRRPv2. It proves nothing; it keeps
// apart what is not meant to be together (RFC 3768 section 10).
func authentic(v *packet.VRRP, want Password) bool {
	if want == "" {
		return v.AuthType == packet.VRRP2AuthNone
	}
	var b [8]byte
	copy(b[:], want)
	return v.AuthType == packet.VRRP2AuthSimple && v.Auth == b
}

func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}
