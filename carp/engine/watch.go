package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
	"sasyncd/kernel/dump"
)

// linkState is what matters of an interface. The zero value is one that is not there.
type linkState struct {
	index int
	mac   packet.MAC
	mtu   int
	up    bool
	addrs []ownAddress              // in the order of the kernel
	via   map[netip.Addr]netip.Addr // to members beyond routers: the source that the kernel takes

	// unknown: the interface could not be read; what was known of it stands.
	unknown bool
	// torn: so for its addresses only.
	torn bool
}

// interfaces reads interfaces; rtnetlink is one. Safe for concurrent use.
type interfaces interface {
	// link reads what is not about addresses. The error for an interface that is
	// not there is netlink.LinkNotFoundError.
	link(device string) (linkState, error)
	// addresses is vip.Addresses.
	addresses(index int) ([]vip.Assigned, error)
}

// rtnetlink is the kernel of the calling thread's network namespace.
type rtnetlink struct{}

func (rtnetlink) link(device string) (linkState, error) { return lookup(device) }

func (rtnetlink) addresses(index int) ([]vip.Assigned, error) { return vip.Addresses(index) }

// lookup reads an interface without its addresses.
func lookup(device string) (linkState, error) {
	var l netlink.Link
	err := dump.Retry(func() (err error) {
		l, err = netlink.LinkByName(device)
		return err
	})
	if err != nil {
		return linkState{}, fmt.Errorf("look up interface %s: %w", device, err)
	}
	a := l.Attrs()
	st := linkState{index: a.Index, mtu: a.MTU}
	copy(st.mac[:], a.HardwareAddr)
	// Running follows the carrier.
	st.up = a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
	return st, nil
}

// probe reads everything about an interface. One that does not exist is down; one
// that cannot be read is no change; err says why.
func (e *Engine) probe(device string) (st linkState, err error) {
	st, err = e.interfaces.link(device)
	switch {
	case err == nil:
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return linkState{}, nil
	default:
		return linkState{unknown: true}, err
	}
	list, err := e.interfaces.addresses(st.index)
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODEV):
		return linkState{}, nil // it has just gone
	default:
		st.torn = true
		return st, err
	}
	for _, a := range list {
		if own, ok := ownAddressOf(a); ok && !(*e.vips.Load())[own.ip] {
			st.addrs = append(st.addrs, own)
		}
	}
	st.lookUpRoutes((*e.unicast.Load())[device])
	return st, nil
}

// after completes a reading by what was known before.
func (st linkState) after(known linkState) linkState {
	switch {
	case st.unknown:
		return known
	case st.torn && st.index == known.index:
		st.addrs, st.via = known.addrs, known.via
	}
	return st
}

// link brings the engine's picture of all interfaces up to date. It runs in the
// engine's thread.
func (e *Engine) link() {
	for _, p := range e.ports {
		st, err := e.probe(p.device)
		if err != nil { // the watcher looks again
			e.say(slog.LevelWarn, "interface cannot be read", "interface", p.device, "err", err)
		}
		e.apply(p, st)
	}
	e.keep()
}

// watch adds a descriptor to those that end the thread's sleep.
func (e *Engine) watch(fd int) error {
	return e.poll.add(fd)
}

// apply takes over the state of an interface.
func (e *Engine) apply(p *port, st linkState) {
	now := bootTime()
	st = st.after(p.known)
	p.known = st
	if st.index != p.index {
		p.close()
		if st.index != 0 {
			err := p.open(st.index)
			if err == nil {
				err = e.watch(p.fd)
			}
			if err != nil {
				p.close()
				st = linkState{}
				if text := err.Error(); text != p.trouble { // it is tried again and again
					p.trouble = text
					e.say(slog.LevelError, "interface cannot be used", "interface", p.device, "err", err)
				}
			} else {
				p.trouble = ""
			}
		}
		e.leaseAgain()
	}
	moved := st.mac != p.mac && st.index == p.index && p.mac != packet.MAC{}
	p.mac = st.mac
	idle := false
	defer func() { p.idle.Store(idle) }()
	for _, r := range e.routers {
		if r.port != p {
			continue
		}
		e.refit(r, st.mtu)
		src := r.route(&st)
		up := st.up && src.IsValid() && p.fd >= 0
		switch {
		case up && (!r.up || src != r.src):
			r.up, r.src = true, src
			e.step(r.group, now, carp.Event{Kind: carp.EvUp, Router: r.index, Src: src})
		case !up && r.up:
			r.up = false
			e.step(r.group, now, carp.Event{Kind: carp.EvDown, Router: r.index})
		}
		if moved && r.up && !r.Virtual {
			e.step(r.group, now, carp.Event{Kind: carp.EvMoved, Router: r.index})
		}
		idle = idle || !r.up
	}
}

// ownAddress returns the virtual address that a message is about, and whether
// it has gone.
func (e *Engine) ownAddress(kind uint16, data []byte) (gone bool, ip netip.Addr) {
	if kind != unix.RTM_NEWADDR && kind != unix.RTM_DELADDR || len(data) < unix.SizeofIfAddrmsg {
		return false, ip
	}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return false, ip
	}
	for _, want := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		for _, a := range attrs {
			if x, ok := netip.AddrFromSlice(a.Value); a.Attr.Type == want && ok && (*e.vips.Load())[x.Unmap()] {
				return kind == unix.RTM_DELADDR, x.Unmap()
			}
		}
	}
	return false, ip
}

// restore puts an address back that somebody took off a master.
func (e *Engine) restore(ip netip.Addr) {
	e.post(func(now time.Duration) {
		for _, r := range e.routers {
			for _, a := range r.VIPs {
				if a == ip && !r.group.machine.Snapshot(now).Fenced {
					r.repaired.Add(1)
					e.say(slog.LevelWarn, "virtual address was removed by somebody, added again", "instance", r.Instance, "address", ip)
					e.order(r.group, carp.Action{Kind: carp.ActRenew})
					e.order(r.group, carp.Action{Kind: carp.ActAnnounce})
				}
			}
		}
	})
}
