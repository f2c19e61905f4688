package engine

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/packet"
)

// receive reads everything that has arrived on all interfaces.
func (e *Engine) receive(now time.Duration) {
	for _, p := range e.ports {
		for range drainLimit {
			if p.FD() < 0 {
				break
			}
			n, err := p.Read(e.thread.rx[:])
			if err == unix.EINTR || err == unix.ENETDOWN {
				continue // the second is told once when the interface goes down
			}
			if err != nil {
				break
			}
			e.packet(p, now, e.thread.rx[:n])
		}
	}
}

// packet judges one frame and gives what is valid to its group.
func (e *Engine) packet(p *port, now time.Duration, b []byte) {
	f := &e.thread.frame
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
	if !e.forUs(p, r, f) {
		return
	}
	var a carp.Advert
	ok := false
	switch kind := packet.KindOf(f.Payload); {
	case kind == packet.KindUnknown:
		e.refuse(r, warnInvalid, "it is of an unknown protocol", f.SrcIP)
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
	a.To = r.towards(f.SrcIP)
	e.step(r.group, now, carp.Event{Kind: carp.EvAdvert, Router: r.index, Advert: a})
	if a.Priority != 0 {
		r.masterHeard(f.SrcIP, now)
		e.peerHeard(r, now, f.SrcIP)
	}
}

const whyOwn = "it has our own address and MAC address: another machine has both, or the network sends ours back"

// forUs reports whether a frame with the id of r is an advertisement of another
// member to us. It says no, and why, where we are meant and it is not taken;
// what others are meant by is nothing to tell.
func (e *Engine) forUs(p *port, r *router, f *packet.Frame) bool {
	multicast := f.DstIP.IsMulticast()
	switch {
	case multicast && f.DstIP != r.Router.group():
		return false
	case !multicast && !f.Dst.IsMulticast() && f.Dst != p.mac && f.Dst != r.sender():
		return false // of another machine, if the interface listens to all
	case !multicast && !p.known.Owns(f.DstIP) && f.DstIP != r.src:
		r.dropped.Add(1)
		return false // on its way through this router
	case multicast && f.Dst != packet.GroupMAC(f.DstIP):
		e.refuse(r, warnCast, "it is multicast under a MAC address that is not the group's", f.SrcIP)
		return false
	case !multicast && f.Dst.IsMulticast():
		e.refuse(r, warnCast, "it is unicast under a MAC address of a group", f.SrcIP)
		return false
	}
	own := p.known.Owns(f.SrcIP) || f.SrcIP == r.src // the owner's may be virtual
	ours := f.Src == p.mac || f.Src == r.sender()
	switch {
	case own && ours:
		e.refuse(r, warnOwn, whyOwn, f.SrcIP)
		return false
	case own:
		e.refuse(r, warnOwn, "another machine advertises from our own address", f.SrcIP)
		return false
	case multicast && len(r.Peers) > 0:
		e.refuse(r, warnCast, "it is multicast and this instance speaks unicast", f.SrcIP)
		return false
	case !multicast && len(r.Peers) == 0:
		e.refuse(r, warnCast, "it is unicast and this instance speaks multicast", f.SrcIP)
		return false
	case !multicast && !slices.Contains(r.Peers, f.SrcIP):
		e.refuse(r, warnPeer, "it is unicast from an address that is no member of ours", f.SrcIP)
		return false
	case int(f.TTL) < packet.TTL-int(r.Hops):
		e.refuse(r, warnTTL, "it comes from beyond a router", f.SrcIP)
		return false
	}
	if f.Src == p.mac {
		// From an address that we do not have, so it is no frame of ours.
		e.doubt(r, warnMAC, "another machine has our MAC address", f.SrcIP)
	}
	return true
}

// receiveVRRP judges a message for a VRRP virtual router.
func (e *Engine) receiveVRRP(r *router, now time.Duration, f *packet.Frame) (a carp.Advert, ok bool) {
	v := &e.thread.vrrp
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
		e.refuse(r, warnVersion, "it is of another version of VRRP", f.SrcIP)
		return a, false
	case version == 2 && r.old != nil && r.old.agrees(v) && !r.agrees(v):
		// Ours was reloaded, theirs was not yet.
	case version == 2 && v.Interval != r.Machine.Interval:
		e.refuse(r, warnInterval, "its interval differs", f.SrcIP)
		return a, false
	case version == 2 && !authentic(v, r.Auth):
		e.refuse(r, warnAuth, "its authentication differs", f.SrcIP)
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
	if !sameSet(v.Addrs, r.VIPs) {
		r.note(warnAddresses, now, f.SrcIP, "it names other virtual addresses than ours")
		if e.maySay(r, warnAddresses, now, f.SrcIP) {
			e.say(slog.LevelWarn, "peer advertises other addresses", "instance", r.Instance, "peer", f.SrcIP,
				"theirs", slices.Clone(v.Addrs), "ours", r.VIPs)
		}
	}
	return carp.Advert{From: f.SrcIP, Priority: v.Priority, Interval: v.Interval, Signed: signed}, true
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
