package engine

import (
	"fmt"
	"log/slog"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/packet"
)

// ethernetMTU is that of an interface which is not there to be asked.
const ethernetMTU = 1500

// fit is how many of its addresses an advertisement of the router holds on a link
// with an MTU; an advertisement is never divided (RFC 9568 section 5.2). It is at
// least 1, and all of them for CARP, which advertises none. Whoever is BACKUP for
// the router need not read the others there: they move with it all the same.
func (r *Router) fit(mtu int) int {
	if r.Machine.Proto == carp.CARP {
		return len(r.VIPs)
	}
	const head4, head6, vrrp, vrrp2Auth = 20, 40, 8, 8 // bytes
	room, each := mtu-head4-vrrp, 4
	if r.six() {
		room, each = mtu-head6-vrrp, 16
	}
	switch {
	case r.Machine.Proto == carp.VRRP2:
		room -= vrrp2Auth
	case auth.New(r.Trailer).Signs():
		room -= packet.TrailerLen
	}
	return min(max(room/each, 1), len(r.VIPs))
}

// Misfit is a router whose advertisement does not hold all its addresses.
type Misfit struct {
	Instance  string
	IPv6      bool
	MTU       int // in bytes
	Fit, Have int // addresses
}

// String says what is wrong.
func (m Misfit) String() string {
	return fmt.Sprintf("an advertisement of instance %s holds %d of its %d %s addresses where the MTU is %d, the "+
		"others are served and not advertised",
		m.Instance, m.Fit, m.Have, family(m.IPv6), m.MTU)
}

// Misfits lists the routers whose advertisement does not hold all their addresses.
// mtu tells that of an interface, 0 if it is not known: then it is taken to be 1500.
func (c *Config) Misfits(mtu func(device string) int) (list []Misfit) {
	for i := range c.Routers {
		r := &c.Routers[i]
		m := Misfit{Instance: r.Instance, IPv6: r.six(), MTU: mtu(r.Device), Have: len(r.VIPs)}
		if m.MTU == 0 {
			m.MTU = ethernetMTU
		}
		if m.Fit = r.fit(m.MTU); m.Fit < m.Have {
			list = append(list, m)
		}
	}
	return list
}

// refit follows a change of the interface's MTU or of the router's settings. It runs
// in the engine's thread.
func (e *Engine) refit(r *router, mtu int) {
	if mtu == 0 {
		mtu = ethernetMTU
	}
	r.advertised = r.fit(mtu)
	told := r.fitTold
	if r.fitTold = r.advertised; r.advertised < len(r.VIPs) && r.advertised != told {
		m := Misfit{Instance: r.Instance, IPv6: r.six(), MTU: mtu, Fit: r.advertised, Have: len(r.VIPs)}
		e.say(slog.LevelWarn, m.String(), "group", r.group.name)
	}
}
