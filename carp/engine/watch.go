package engine

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
)

// probe reads everything about an interface; see link.Read.
func (e *Engine) probe(device string) (link.State, error) {
	return link.Read(e.interfaces, device, *e.vips.Load(), (*e.unicast.Load())[device])
}

// lookAtLinks brings the engine's picture of all interfaces up to date. It runs in the
// engine's thread.
func (e *Engine) lookAtLinks() {
	for _, p := range e.ports {
		st, err := e.probe(p.Device)
		if err != nil { // the watcher looks again
			e.say(slog.LevelWarn, "interface cannot be read", "interface", p.Device, "err", err)
		}
		e.apply(p, st)
	}
	e.keep()
	e.lookAtConfigured()
}

// watch adds a descriptor to those that end the thread's sleep.
func (e *Engine) watch(fd int) error {
	return e.poll.Add(fd)
}

// apply takes over the state of an interface.
func (e *Engine) apply(p *port, st link.State) {
	now := link.BootTime()
	st = st.After(p.known)
	p.known = st
	if st.Index != p.Index {
		p.Close()
		if st.Index != 0 {
			err := p.Open(st.Index)
			if err == nil {
				err = e.watch(p.FD())
			}
			if err != nil {
				p.Close()
				st = link.State{}
				if text := err.Error(); text != p.trouble { // it is tried again and again
					p.trouble = text
					e.say(slog.LevelError, "interface cannot be used", "interface", p.Device, "err", err)
				}
			} else {
				p.trouble = ""
			}
		}
		e.leaseAgain()
	}
	moved := st.MAC != p.mac && st.Index == p.Index && p.mac != packet.MAC{}
	p.mac = st.MAC
	idle := false
	defer func() { p.idle.Store(idle) }()
	for _, r := range e.routers {
		if r.port != p {
			continue
		}
		e.refit(r, st.MTU)
		src := r.route(&st)
		up := st.Up && src.IsValid() && p.FD() >= 0
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
					e.repaired(r.group, api.RepairedAddress, "virtual address was removed by somebody, added again",
						"instance", r.Instance, "address", ip)
					e.order(r.group, carp.Action{Kind: carp.ActRenew})
					e.order(r.group, carp.Action{Kind: carp.ActAnnounce})
				}
			}
		}
	})
}
