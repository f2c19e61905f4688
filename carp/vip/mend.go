package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mend is that of Plain.
func (v *Virtual) Mend(as []Address, lease time.Duration) ([]netip.Addr, error) {
	as, err := v.place(as, true)
	back, merr := v.Plain.Mend(as, lease)
	return back, errors.Join(err, merr)
}

// Mend puts back the routes in the kernel's table "local" without which an address is
// on its interface and receives nothing, and returns the addresses that lacked theirs.
// An address that is gone altogether is added again and is not among them. What an
// interface has that is down is left alone: the kernel takes its routes away and puts
// them back itself. So is an address that was added a moment ago.
func (p *Plain) Mend(as []Address, lease time.Duration) (back []netip.Addr, _ error) {
	as, err := p.leased(as)
	errs := []error{err}
	for _, a := range as {
		at := addressOn{a.IP, a.Index}
		if p.local(a) {
			delete(p.late, at)
			continue
		}
		if added, ok := p.late[at]; ok && time.Since(added) < settleLimit || !p.up(a.Index) {
			continue
		}
		if err := p.Renew([]Address{a}, lease); err != nil {
			errs = append(errs, err)
			continue
		}
		if p.local(a) {
			continue
		}
		delete(p.late, at)
		if err := p.reroute(a, lease); err != nil {
			errs = append(errs, fmt.Errorf("put back local route of %v: %w", a.IP, err))
			continue
		}
		back = append(back, a.IP)
	}
	return back, errors.Join(errs...)
}

// up reports whether an interface is up, as far as its administrator is concerned.
func (p *Plain) up(index int) bool {
	l, err := p.nl.LinkByIndex(index)
	return err == nil && l.Attrs().RawFlags&unix.IFF_UP != 0
}

// reroute gives an address that is on its interface its local route again.
func (p *Plain) reroute(a Address, lease time.Duration) error {
	if a.IP.Is6() {
		// The kernel keeps the route that it made for the address, and would leave behind
		// any other when the address goes.
		if err := p.Release([]Address{a}); err != nil {
			return err
		}
		late, err := p.Acquire([]Address{a}, lease)
		if err == nil && len(late) > 0 {
			err = errors.New("the kernel does not route it as local")
		}
		return err
	}
	// As fib_add_ifaddr of net/ipv4/fib_frontend.c makes it, so that it goes with the
	// address. To take the address off would take the routes along that name it as source.
	return p.nl.RouteReplace(&netlink.Route{
		LinkIndex: a.Index, Dst: address(a.IP, lease).IPNet, Src: a.IP.AsSlice(), Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Protocol: unix.RTPROT_KERNEL,
	})
}

// configured lists the addresses of an interface that the system has configured:
// carpd's always have a limited lifetime.
func configured(index int) (map[netip.Addr]bool, error) {
	list, err := Addresses(index)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	have := make(map[netip.Addr]bool)
	for _, a := range list {
		if a.Flags&unix.IFA_F_PERMANENT != 0 {
			have[a.IP] = true
		}
	}
	return have, nil
}

// leased leaves out the addresses of their owner that its interface has anyway: they
// are neither added, renewed nor removed. Where that cannot be read all of an owner's
// are left out.
func (p *Plain) leased(as []Address) ([]Address, error) {
	out := make([]Address, 0, len(as))
	var errs []error
	have := make(map[int]map[netip.Addr]bool)
	for _, a := range as {
		if !a.Owner || a.Virtual {
			out = append(out, a)
			continue
		}
		on, ok := have[a.Index]
		if !ok {
			var err error
			on, err = configured(a.Index)
			if err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, err)
				continue
			}
			have[a.Index] = on
		}
		if !on[a.IP] {
			out = append(out, a)
		}
	}
	return out, errors.Join(errs...)
}

// Configured is a virtual address that the system has configured too.
type Configured struct {
	IP     netip.Addr
	Device string
	Bits   int // of the prefix
}

// Configured lists which of ips any interface has without a limited lifetime: not by
// carpd, whose addresses always have one.
func (p *Plain) Configured(ips []netip.Addr) ([]Configured, error) {
	list, err := Addresses(0)
	if err != nil {
		return nil, err
	}
	want := make(map[netip.Addr]bool, len(ips))
	for _, ip := range ips {
		want[ip] = true
	}
	var out []Configured
	for _, a := range list {
		if !want[a.IP] || a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		c := Configured{IP: a.IP, Device: fmt.Sprint(a.Index), Bits: a.Net.Bits()}
		if l, err := p.nl.LinkByIndex(a.Index); err == nil {
			c.Device = l.Attrs().Name
		}
		out = append(out, c)
	}
	return out, nil
}
