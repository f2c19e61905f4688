package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/kernel/dump"
)

// Virtual holds addresses on the protocol's own MAC address where they ask for
// it, on a macvlan on top of their interface, and the others as Plain does. Not
// for concurrent use.
//
// While the node does not have the addresses the macvlan is down and without
// any: one that is up forwards frames for the virtual MAC even without
// addresses. It stays, because making one costs milliseconds.
type Virtual struct{ *Plain }

// NewVirtual opens a socket in the network namespace of the calling thread.
func NewVirtual() (*Virtual, error) {
	p, err := NewPlain()
	if err != nil {
		return nil, err
	}
	return &Virtual{p}, nil
}

// Acquire is that of Plain.
func (v *Virtual) Acquire(as []Address, lease time.Duration) (late []netip.Addr, _ error) {
	as, err := v.place(as, true)
	late, aerr := v.Plain.Acquire(as, lease)
	return late, errors.Join(err, aerr)
}

// Renew is that of Plain. A macvlan that someone took away is made again.
func (v *Virtual) Renew(as []Address, lease time.Duration) error {
	as, err := v.place(as, true)
	return errors.Join(err, v.Plain.Renew(as, lease))
}

// Release is that of Plain, and takes macvlans down that are empty then.
func (v *Virtual) Release(as []Address) error {
	placed, err := v.place(as, false)
	errs := []error{err, v.Plain.Release(placed)}
	for i, a := range placed {
		if !as[i].Virtual || i > 0 && placed[i-1].Index == a.Index {
			continue
		}
		list, err := Addresses(a.Index)
		if err == nil && len(list) == 0 {
			err = v.nl.LinkSetDown(link(a.Index))
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("take virtual interface down: %w", err))
		}
	}
	return errors.Join(errs...)
}

// MACName names the macvlan of a virtual MAC on an interface: short enough, and
// the same after a restart.
func MACName(index int, mac packet.MAC) string {
	return fmt.Sprintf("vm%d-%x%02x", index, mac[4], mac[5])
}

// place replaces the interfaces of virtual addresses by their macvlans. An
// address whose macvlan cannot be had stays where it is when it is to be
// removed, and is left out otherwise.
func (v *Virtual) place(as []Address, up bool) ([]Address, error) {
	out := make([]Address, 0, len(as))
	var errs []error
	for i, a := range as {
		if !a.Virtual {
			out = append(out, a)
			continue
		}
		if i > 0 && as[i-1].Index == a.Index && as[i-1].MAC == a.MAC && len(out) == i &&
			out[i-1].Index != as[i-1].Index {
			a.Index = out[i-1].Index // the same as the one before
			out = append(out, a)
			continue
		}
		index, err := v.ensure(a.Index, a.MAC, up)
		switch {
		case err == nil:
			a.Index = index
			out = append(out, a)
		case errors.Is(err, unix.ENODEV) && !up:
			out = append(out, a) // the parent is gone, and everything with it
		default:
			errs = append(errs, err)
			if !up {
				out = append(out, a)
			}
		}
	}
	return out, errors.Join(errs...)
}

// ensure makes the macvlan what it has to be, and returns its index.
func (v *Virtual) ensure(parent int, mac packet.MAC, up bool) (int, error) {
	name := MACName(parent, mac)
	l, err := v.byName(name)
	if err == nil {
		mv, ok := l.(*netlink.Macvlan)
		if !ok || mv.ParentIndex != parent || mv.Attrs().HardwareAddr.String() != net.HardwareAddr(mac[:]).String() {
			return 0, fmt.Errorf("virtual interface %s: there is another interface of this name", name)
		}
	} else if errors.As(err, new(netlink.LinkNotFoundError)) {
		l, err = v.create(name, parent, mac)
	}
	if err != nil {
		return 0, fmt.Errorf("virtual interface %s: %w", name, err)
	}
	if index := l.Attrs().Index; up && l.Attrs().RawFlags&unix.IFF_UP == 0 {
		v.tune(parent, index)
		if err := v.nl.LinkSetUp(l); err != nil {
			return 0, fmt.Errorf("virtual interface %s: %w", name, err)
		}
	}
	return l.Attrs().Index, nil
}

// byName looks an interface up. The library dumps all where the kernel cannot find one by name.
func (v *Virtual) byName(name string) (l netlink.Link, err error) {
	err = dump.Retry(func() (err error) {
		l, err = v.nl.LinkByName(name)
		return err
	})
	return l, err
}

func (v *Virtual) create(name string, parent int, mac packet.MAC) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = name, parent, mac[:]
	// Bridge mode: in the others, packets from a peer with the same virtual MAC
	// do not get to sockets on the parent.
	mv := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := v.nl.LinkAdd(mv); err != nil {
		return nil, err
	}
	l, err := v.byName(name)
	if err != nil {
		return nil, err
	}
	// No link-local address of its own: it would be the same on all members.
	if err := v.nl.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE); err != nil &&
		!errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		_ = v.nl.LinkDel(l)
		return nil, err
	}
	return l, nil
}

// Settings of net.ipv4.conf, numbers of linux/ip.h (IPV4_DEVCONF_*).
const (
	confRPFilter    = 8
	confARPFilter   = 13
	confARPAnnounce = 18
	confARPIgnore   = 19
	confAcceptLocal = 23
)

// tune sets what of net.ipv4.conf a virtual MAC needs: that only the macvlan
// answers for its addresses, that the parent does not tell its own MAC with them,
// and that packets of the same network may come in by either. The strictest of
// `all` and the interface's counts for most, so `carpctl doctor` looks at that.
func (v *Virtual) tune(parent, index int) {
	filter := uint32(0)
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter"); err == nil &&
		strings.TrimSpace(string(b)) != "0" {
		filter = 2 // loose; the larger number counts
	}
	// Best effort: a kernel without IPv4 has no ARP either.
	_ = v.setConf(index, map[uint16]uint32{confARPIgnore: 1, confAcceptLocal: 1, confRPFilter: filter,
		confARPAnnounce: 2})
	_ = v.setConf(parent, map[uint16]uint32{confARPIgnore: 1, confARPFilter: 1, confARPAnnounce: 2})
}

// setConf sets net.ipv4.conf over netlink, which works where /proc/sys is read
// only.
func (v *Virtual) setConf(index int, values map[uint16]uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	inet := spec.AddRtAttr(unix.AF_INET, nil)
	conf := inet.AddRtAttr(iflaInetConf, nil)
	for id, value := range values {
		conf.AddRtAttr(int(id), binary.NativeEndian.AppendUint32(nil, value))
	}
	req.AddData(spec)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set net.ipv4.conf of interface %d: %w", index, err)
	}
	return nil
}

// iflaInetConf is IFLA_INET_CONF of linux/if_link.h.
const iflaInetConf = 1
