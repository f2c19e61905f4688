package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/packet"
)

// linkState is what matters of an interface.
type linkState struct {
	index  int
	mac    packet.MAC
	up     bool
	src4   netip.Addr   // first address that is not virtual
	local6 netip.Addr   // link-local
	wide6  netip.Addr   // first other
	own    []netip.Addr // virtual, and configured by the system: those of their owner
}

// lookup reads the index and address of an interface.
func lookup(device string) (linkState, error) {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return linkState{}, fmt.Errorf("look up interface %s: %w", device, err)
	}
	a := l.Attrs()
	st := linkState{index: a.Index}
	copy(st.mac[:], a.HardwareAddr)
	// Running follows the carrier.
	st.up = a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
	return st, nil
}

// probe reads everything about an interface. One that does not exist is down.
func (e *Engine) probe(device string) linkState {
	st, err := lookup(device)
	if err != nil {
		return linkState{}
	}
	list, err := netlink.AddrList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: st.index}}, netlink.FAMILY_ALL)
	if err != nil {
		e.say(slog.LevelWarn, "addresses of interface cannot be read", "interface", device, "err", err)
		return st
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		unusable := a.Flags & (unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED)
		if a.Flags&unix.IFA_F_OPTIMISTIC != 0 {
			unusable &^= unix.IFA_F_TENTATIVE
		}
		if !ok || unusable != 0 {
			continue
		}
		if (*e.vips.Load())[ip] {
			if a.Flags&unix.IFA_F_PERMANENT != 0 {
				st.own = append(st.own, ip)
			}
			continue
		}
		switch {
		case ip.Is4() && !st.src4.IsValid():
			st.src4 = ip
		case ip.IsLinkLocalUnicast() && !st.local6.IsValid():
			st.local6 = ip
		case ip.Is6() && !ip.IsLinkLocalUnicast() && !st.wide6.IsValid():
			st.wide6 = ip
		}
	}
	return st
}

// source is the address that r advertises from. That of an owner may be the virtual
// address itself, where its interface has no other one (RFC 9568 section 5.1.1.1).
func (r *router) source(st linkState) netip.Addr {
	src, fits := st.local6, netip.Addr.IsLinkLocalUnicast
	switch {
	case !r.six():
		src, fits = st.src4, netip.Addr.Is4
	case len(r.Peers) > 0 && !r.Peers[0].IsLinkLocalUnicast():
		src, fits = st.wide6, netip.Addr.IsGlobalUnicast
	}
	if src.IsValid() || !r.owner() {
		return src
	}
	for _, ip := range st.own {
		if slices.Contains(r.VIPs, ip) && fits(ip) {
			return ip
		}
	}
	return src
}

// link brings the engine's picture of all interfaces up to date. It runs in the
// engine's thread.
func (e *Engine) link() {
	for _, p := range e.ports {
		e.apply(p, e.probe(p.device))
	}
	e.keep()
	e.lookAtConfigured()
}

// watch adds a descriptor to those that end the thread's sleep.
func (e *Engine) watch(fd int) error {
	return e.poll.add(fd)
}

// apply takes over the state of an interface.
func (e *Engine) apply(p *port, st linkState) {
	now := bootTime()
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
				e.say(slog.LevelError, "interface cannot be used", "interface", p.device, "err", err)
			}
		}
		e.leaseAgain()
	}
	p.mac = st.mac
	for _, r := range e.routers {
		if r.port != p {
			continue
		}
		src := r.source(st)
		up := st.up && src.IsValid() && p.fd >= 0
		switch {
		case up && (!r.up || src != r.src):
			if len(r.Peers) > 0 {
				if err := p.bindUnicast(src); err != nil {
					e.say(slog.LevelError, "unicast cannot be used", "instance", r.Instance, "err", err)
				}
			}
			r.up, r.src = true, src
			e.step(r.group, now, carp.Event{Kind: carp.EvUp, Router: r.index, Src: src})
		case !up && r.up:
			r.up = false
			e.step(r.group, now, carp.Event{Kind: carp.EvDown, Router: r.index})
		}
	}
}

// watcher tells the engine when interfaces or addresses change.
type watcher struct {
	e    *Engine
	sock *nl.NetlinkSocket
}

func newWatcher(e *Engine) (*watcher, error) {
	w := &watcher{e: e}
	return w, w.subscribe()
}

func (w *watcher) subscribe() (err error) {
	w.sock, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// run reads until ctx ends. Whatever goes wrong leads to a new subscription and
// a full look, as after an overflow.
func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		// A timeout, so that the end of ctx is noticed.
		limit := unix.NsecToTimeval(int64(200 * time.Millisecond))
		_ = w.sock.SetReceiveTimeout(&limit)
		msgs, _, err := w.sock.Receive()
		switch err {
		case nil:
		case unix.EAGAIN, unix.EINTR:
			continue
		default:
			w.sock.Close()
			for ctx.Err() == nil && w.subscribe() != nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
			w.e.relink()
			w.e.post(func(time.Duration) { w.e.lookAtConfigured() })
			continue
		}
		look, configured := false, false
		for _, m := range msgs {
			gone, ours := w.e.ownAddress(m.Header.Type, m.Data)
			switch {
			case ours.IsValid() && m.Data[2]&unix.IFA_F_PERMANENT != 0:
				// Configured by the system: perhaps the source of the owner.
				look, configured = true, true
			case gone:
				w.e.restore(ours)
			case ours.IsValid(): // our own renewal
			default:
				look = true
			}
		}
		if configured {
			w.e.post(func(time.Duration) { w.e.lookAtConfigured() })
		}
		if look {
			w.e.relink()
		}
	}
	w.sock.Close()
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

// relink looks at the interfaces here and takes the result over in the engine's
// thread.
func (e *Engine) relink() {
	for _, p := range e.ports { // fixed for the life of the engine
		st := e.probe(p.device)
		e.post(func(time.Duration) {
			changed := p.index != st.index
			e.apply(p, st)
			if changed {
				e.keep()
			}
		})
	}
}

// restore puts an address back that somebody took off a master.
func (e *Engine) restore(ip netip.Addr) {
	e.post(func(now time.Duration) {
		for _, r := range e.routers {
			for _, a := range r.VIPs {
				if a == ip && !r.group.machine.Snapshot(now).Fenced {
					r.repaired.Add(1)
					e.repaired(r.group, api.RepairedAddress, "virtual address was removed by somebody, added again", "instance", r.Instance, "address", ip)
					e.order(r.group, carp.Action{Kind: carp.ActRenew})
					e.order(r.group, carp.Action{Kind: carp.ActAnnounce})
				}
			}
		}
	})
}
