// Package link is the interfaces on which carpd elects: what they are and from which
// addresses to speak, the sockets on them, and the wait for what arrives.
package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
	"sasyncd/kernel/dump"
)

// State is what matters of an interface. The zero value is one that is not there.
type State struct {
	Index int
	MAC   packet.MAC
	MTU   int                       // bytes
	Up    bool                      // set up, with carrier
	Addrs []Address                 // in the order of the kernel
	Own   []Address                 // virtual, and configured by the system: those of their owner
	Via   map[netip.Addr]netip.Addr // to members beyond routers: the source that the kernel takes

	// Unknown: the interface could not be read; what was known of it stands.
	Unknown bool
	// Torn: so for its addresses only.
	Torn bool
}

// Reader reads interfaces; Kernel is one. Safe for concurrent use.
type Reader interface {
	// Link reads what is not about addresses. The error for an interface that is
	// not there is netlink.LinkNotFoundError.
	Link(device string) (State, error)
	// Addresses is vip.Addresses.
	Addresses(index int) ([]vip.Assigned, error)
}

// Kernel is the kernel of the calling thread's network namespace.
type Kernel struct{}

// Link is Lookup.
func (Kernel) Link(device string) (State, error) { return Lookup(device) }

// Addresses is vip.Addresses.
func (Kernel) Addresses(index int) ([]vip.Assigned, error) { return vip.Addresses(index) }

// Lookup reads an interface without its addresses.
func Lookup(device string) (State, error) {
	var l netlink.Link
	err := dump.Retry(func() (err error) {
		l, err = netlink.LinkByName(device)
		return err
	})
	if err != nil {
		return State{}, fmt.Errorf("look up interface %s: %w", device, err)
	}
	a := l.Attrs()
	st := State{Index: a.Index, MTU: a.MTU}
	copy(st.MAC[:], a.HardwareAddr)
	// Running follows the carrier.
	st.Up = a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
	return st, nil
}

// Read reads everything about an interface. virtual says which addresses are virtual,
// peers are spoken to by unicast. An interface that does not exist is down; one that
// cannot be read is no change; err says why.
func Read(r Reader, device string, virtual map[netip.Addr]bool, peers []netip.Addr) (st State, err error) {
	st, err = r.Link(device)
	switch {
	case err == nil:
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return State{}, nil
	default:
		return State{Unknown: true}, err
	}
	list, err := r.Addresses(st.Index)
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODEV):
		return State{}, nil // it has just gone
	default:
		st.Torn = true
		return st, err
	}
	for _, a := range list {
		own, ok := AddressOf(a)
		switch {
		case !ok:
		case !virtual[a.IP]:
			st.Addrs = append(st.Addrs, own)
		case a.Flags&unix.IFA_F_PERMANENT != 0:
			st.Own = append(st.Own, own)
		}
	}
	st.LookUpRoutes(peers)
	return st, nil
}

// After completes a reading by what was known before.
func (st State) After(known State) State {
	switch {
	case st.Unknown:
		return known
	case st.Torn && st.Index == known.Index:
		st.Addrs, st.Own, st.Via = known.Addrs, known.Own, known.Via
	}
	return st
}
