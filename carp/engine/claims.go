package engine

import (
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/claims"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
)

// aim tells the watcher of claims which addresses there are. Those of members beyond
// routers may be in another network, where nobody can be asked.
func (e *Engine) aim() {
	var targets []claims.Target
	var all []netip.Addr
	for _, r := range e.routers {
		if r.Hops > 0 {
			continue
		}
		i := slices.IndexFunc(targets, func(t claims.Target) bool { return t.Device == r.Device })
		if i < 0 {
			i = len(targets)
			targets = append(targets, claims.Target{Device: r.Device})
		}
		targets[i].IPs = append(targets[i].IPs, r.VIPs...)
		all = append(all, r.VIPs...)
	}
	e.claims.book.Aim(all, link.BootTime())
	e.claims.asked.Store(&targets)
}

// watchClaims makes the watcher; it runs in a goroutine of its own.
func (e *Engine) watchClaims() *claims.Watcher {
	return &claims.Watcher{Book: &e.claims.book, Now: link.BootTime,
		Targets: func() []claims.Target { return *e.claims.asked.Load() }}
}

// answers is the MAC with which the addresses of r are answered for by a MASTER.
func (r *router) answers() packet.MAC {
	if r.Virtual {
		return r.virtualMAC()
	}
	return r.port.mac
}

// masterHeard notes whose advertisement is taken, for describeClaims.
func (r *router) masterHeard(from netip.Addr, now time.Duration) {
	if r.master != from {
		r.master, r.masterAt = from, now
	}
}

// describeClaims adds who answers for the addresses of a router.
func (e *Engine) describeClaims(r *router, out *api.RouterState, s *carp.Snapshot, now time.Duration) {
	if r.Hops > 0 || r.port.mac == (packet.MAC{}) {
		return
	}
	own := r.answers()
	out.MAC = own.String()
	since := now - s.Age
	if s.State == carp.Backup {
		since = max(since, r.masterAt)
	}
	// The kernel of a MASTER whose carpd has died answers until the leases end, which are
	// counted in whole seconds and from a moment later.
	since += r.Machine.Lease() + time.Second
	hears := s.State == carp.Backup && !out.Expired && out.Peer.IsValid()
	for _, ip := range r.VIPs {
		for _, mac := range e.claims.book.Claims(ip, since, now) {
			if s.State == carp.Master && mac == own {
				continue // sent back by the network
			}
			name := mac.String()
			i := slices.IndexFunc(out.Claims, func(c api.Claim) bool { return c.MAC == name })
			if i < 0 {
				i = len(out.Claims)
				out.Claims = append(out.Claims, api.Claim{MAC: name, Address: ip})
			}
			out.Claims[i].Count++
		}
		if hears && e.claims.book.Silent(ip, since, now) {
			out.Silent = append(out.Silent, ip)
		}
	}
}
