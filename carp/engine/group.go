package engine

import (
	"net/netip"
	"sync/atomic"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
)

// group is a group and what belongs to it.
type group struct {
	machine *carp.Group
	name    string           // never changes, so the worker may read it too
	cfg     carp.GroupConfig // a reload replaces it
	index   int
	routers []*router
	lease   time.Duration
	latest  atomic.Uint64 // operation that was ordered

	frozenTo time.Duration // while MASTER: a restart is announced, 0 none
	adopt    uint64        // at the start: the term that was left behind
	held     bool          // nothing is forwarded from its interfaces

	contests [2]pace                                  // what was said of their beginning, and of their end
	moves    [carp.Master + 1][carp.Master + 1]uint64 // changes of state, from and to
	takeover takeover
	course   course        // of the mastership that began last
	ended    time.Duration // when its latest mastership ended, 0 none
	silent   time.Duration // since when the master that hands over to this node has been fenced, 0 not known
	repairs  repairs
	bfd      []bfdSession
}

// router is a virtual router and what belongs to it.
type router struct {
	Router
	group     *group
	index     int // in the group
	port      *port
	up        bool
	src       netip.Addr
	multicast link.Source // in use without Peers
	paths     []link.Path // in use with Peers, one for each
	id        uint16      // of IPv4 packets
	checksum  packet.Checksum
	// advertised is how many of the addresses are in an advertisement.
	advertised int
	fitTold    int           // for how many the log knows it
	old        *Router       // settings before a reload, until the new ones are heard
	heard      heard         // other masters
	master     netip.Addr    // the latest of them
	masterAt   time.Duration // since when
	refusals   [warnings]refusal

	auth *auth.Auth
	carp *carpWire // CARP only

	tx, rx, dropped, repaired atomic.Uint64
	badDigest                 atomic.Uint64 // CARP
	verdicts                  [auth.Verdicts]atomic.Uint64
}

// leftovers returns the addresses of a group on the interfaces that exist now.
func (e *Engine) leftovers(g *group) []vip.Address {
	var out []vip.Address
	for _, r := range g.routers {
		st, err := e.interfaces.Link(r.Device)
		if err != nil {
			continue // no interface, no address on it
		}
		for _, a := range r.VIPs {
			out = append(out, r.address(a, st.Index, st.MAC))
		}
	}
	return out
}

// addresses returns the addresses of a group as the kernel wants them.
// Interfaces that are not there are left out. It runs in the engine's thread.
func (g *group) addresses() []vip.Address {
	var out []vip.Address
	for _, r := range g.routers {
		if r.port.Index == 0 {
			continue
		}
		for _, a := range r.VIPs {
			out = append(out, r.address(a, r.port.Index, r.port.mac))
		}
	}
	return out
}

// address describes a virtual address on an interface with the given MAC.
func (r *router) address(ip netip.Addr, index int, mac packet.MAC) vip.Address {
	if !r.Virtual {
		return vip.Address{IP: ip, Index: index, MAC: mac, Owner: r.owner()}
	}
	return vip.Address{IP: ip, Index: index, MAC: r.virtualMAC(), Virtual: true}
}
