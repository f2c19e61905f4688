// Package engine runs the election machines of package carp against a real
// network: sockets, clock, addresses, fence, clients.
//
// One goroutine, locked to a thread with real-time priority, does everything
// that has to be punctual: it receives, decides and advertises, and does not
// allocate per packet. Whatever can block is elsewhere: a second thread changes
// addresses and fence, in order, and reports back; a third goroutine watches
// interfaces; a fourth hands events to clients and to the log.
//
// Packets are received on packet sockets at the parent interface, so neither a
// firewall nor rp_filter can make a node deaf, and sent there too.
package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/filter"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
)

// Config is what the engine runs.
type Config struct {
	Groups  []carp.GroupConfig // Routers is filled in from Routers below
	Routers []Router
}

// Router is an instance in one address family.
type Router struct {
	Instance string
	Group    string
	Device   string
	Machine  carp.RouterConfig
	VIPs     []netip.Addr // of one family, as advertised; IPv6: a link-local one first
	Peers    []netip.Addr // unicast; empty: multicast
	Hops     uint8        // unicast: routers that may be between us and a member
	Checksum Checksum     // VRRPv3 over IPv4
	Auth     Password     // VRRPv2: simple password, empty none; CARP: pass phrase
	Hashed   []netip.Addr // CARP: the addresses of both families, which the digest covers
	Trailer  auth.Policy  // VRRPv3 and CARP
	Virtual  bool         // the addresses live on the protocol's own MAC
	Lease    bool         // the kernel silences the addresses when advertisements cease
	Refuse   bool         // packets to the addresses are not accepted, but by their owner
}

// Password does not print.
type Password string

// String returns a placeholder.
func (p Password) String() string { return fmt.Sprintf("<secret %d bytes>", len(p)) }

// Format prints the placeholder, whatever the verb.
func (p Password) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// Checksum says which dialect to send.
type Checksum uint8

// The choices. Auto sends what the last valid advertisement used.
const (
	ChecksumAuto Checksum = iota
	ChecksumPseudo
	ChecksumMessage
)

// Fence silences addresses; rules.Fence is one. Clear names the interface that
// has the addresses. Renew is called every second while a group is MASTER, and
// keeps it open for at least lifetime, at least two seconds. Forget takes it off
// what is not virtual any more, Closed reports whether it is set for any. Mend makes it
// what Set and Clear have last made it, whoever changed it since.
type Fence interface {
	Set(vips ...netip.Addr) error
	Clear(link int, vips ...netip.Addr) error
	Renew(lifetime time.Duration) error
	Forget(vips ...netip.Addr) error
	Closed(vips ...netip.Addr) (bool, error)
	Mend(vips ...netip.Addr) (FenceMended, error)
}

// FenceMended is what was repaired of the fence.
type FenceMended struct {
	Closed []netip.Addr // were not fenced any more
	Opened []netip.Addr // were fenced by somebody else
	Gated  []netip.Addr // lacked what closes the fence of a process that died
	Routes int          // of that, which were gone
}

// Addresses puts addresses on interfaces with a lease; vip.Virtual is one. Mend puts
// back the local routes of addresses, and lists those that had lost theirs. Acquire
// lists the addresses that are there and that the kernel does not route as local yet.
type Addresses interface {
	Acquire(as []vip.Address, lease time.Duration) (late []netip.Addr, _ error)
	Renew(as []vip.Address, lease time.Duration) error
	Release(as []vip.Address) error
	Mend(as []vip.Address, lease time.Duration) ([]netip.Addr, error)
	Present() (map[netip.Addr]bool, error) // of all interfaces
	Configured(ips []netip.Addr) ([]vip.Configured, error)
}

// Announcer tells neighbours where addresses are; vip.Announcer is one.
type Announcer interface {
	Announce(as []vip.Address) error
}

// NextHops looks after neighbours; vip.NextHops is one. Keep may be called while
// the others are.
type NextHops interface {
	Keep(indexes []int) error
	Purge(indexes []int) error
	Own(as []vip.Address) error
}

// Filter keeps packets from addresses of this node; filter.Rules is one. Each
// call replaces what the one before has set. Changed reports whether somebody else has
// changed since what Refuse and Lease have set.
type Filter interface {
	Refuse(vips ...netip.Addr) error
	Lease(ls ...filter.Lease) error
	Changed() (refuse, lease bool, err error)
}

// Terms remembers the highest term of each group.
type Terms interface {
	Term(group string) uint64
	SetTerm(group string, term uint64)
}

// Freezer remembers over a restart which mastership was left behind on purpose,
// and until when by the clock of this boot.
type Freezer interface {
	Frozen(group string) (term uint64, until time.Duration)
	Freeze(group string, term uint64, until time.Duration) error
	Thaw(group string) error
}

// check refuses what the engine cannot run.
func (c *Config) check() error {
	var errs []error
	type key struct {
		device string
		six    bool
		id     uint8
	}
	seen := map[key]string{}
	for _, r := range c.Routers {
		if !slices.ContainsFunc(c.Groups, func(g carp.GroupConfig) bool { return g.Name == r.Group }) {
			errs = append(errs, fmt.Errorf("instance %s: no group %s", r.Instance, r.Group))
		}
		if len(r.VIPs) == 0 {
			errs = append(errs, fmt.Errorf("instance %s: no address", r.Instance))
			continue
		}
		k := key{r.Device, r.six(), r.Machine.ID}
		if other, ok := seen[k]; ok {
			errs = append(errs, fmt.Errorf("instance %s: id %d on %s is that of instance %s", r.Instance, r.Machine.ID,
				r.Device, other))
		}
		seen[k] = r.Instance
	}
	return errors.Join(errs...)
}

// owner is the priority of the router whose own addresses the virtual ones are
// (RFC 9568 section 5.2.4).
const owner = 255

// owner reports whether the virtual addresses are the node's own.
func (r *Router) owner() bool { return r.Machine.Proto != carp.CARP && r.Machine.Priority == owner }

// refuses reports whether the addresses of a router do not accept packets.
func (r *Router) refuses() bool { return r.Refuse && !r.owner() }

// refused lists the addresses that do not accept packets.
func (c *Config) refused() []netip.Addr {
	var out []netip.Addr
	for _, r := range c.Routers {
		if r.refuses() {
			out = append(out, r.VIPs...)
		}
	}
	return out
}

func (r *Router) six() bool { return r.VIPs[0].Is6() }

// virtualMAC is the MAC of the protocol: CARP has one for both families.
func (r *Router) virtualMAC() packet.MAC {
	return packet.VirtualMAC(r.Machine.ID, r.six() && r.Machine.Proto != carp.CARP)
}

func (r *Router) group() netip.Addr {
	if r.six() {
		return packet.Group6()
	}
	return packet.Group4()
}
