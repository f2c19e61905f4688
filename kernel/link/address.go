package link

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Address is an address of this node.
type Address struct {
	Prefix    netip.Prefix // the address, not masked, and its length
	Link      int          // index of its interface
	Interface string       // name of its interface; "" if that is gone already
	// Flags are IFA_F_* of linux/if_addr.h: permanent, tentative, deprecated...
	Flags uint32
	// Valid is how many seconds it stays without renewal; NoLease is for ever.
	Valid    uint32
	Loopback bool // of scope host
}

// NoLease is the lifetime of an address without a lease.
const NoLease = ^uint32(0)

// Addrs lists the addresses of the namespace, of both families.
func (t *Table) Addrs(ctx context.Context) (list []Address, err error) {
	payload := make([]byte, 8)
	list, err = netlink.Collect(ctx, t.req, unix.RTM_GETADDR, payload, func(m netlink.Message) (Address, bool, error) {
		a, ok := decodeAddress(m.Payload)
		return a, ok && m.Type == unix.RTM_NEWADDR, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for i := range list {
		list[i].Interface = t.names.Name(uint32(list[i].Link))
	}
	return list, nil
}

// NodeAddrs lists the addresses of the calling thread's network namespace, of both
// families, for who has no Table; with a name those of that interface. It needs no privilege.
func NodeAddrs(ctx context.Context, name string) (list []netip.Addr, err error) {
	req, err := netlink.NewRequester(func() (*netlink.Socket, error) {
		return netlink.OpenSocket(unix.NETLINK_ROUTE, 0,
			0)
	}, 0)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	defer func() { _ = req.Close() }()
	var index uint32
	if name != "" {
		l, err := OpenNames()
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		if index, err = l.Index(name); err != nil {
			return nil, fmt.Errorf("look up interface %s: %w", name, err)
		}
	}
	list, err = netlink.Collect(ctx, req, unix.RTM_GETADDR, make([]byte, 8), func(m netlink.Message) (netip.Addr, bool,
		error) {
		a, ok := decodeAddress(m.Payload)
		return a.Prefix.Addr(), ok && m.Type == unix.RTM_NEWADDR && (index == 0 || uint32(a.Link) == index), nil
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return list, nil
}

// decodeAddress reads an RTM_NEWADDR message (struct ifaddrmsg). ok is false
// for families other than IPv4 and IPv6.
func decodeAddress(b []byte) (a Address, ok bool) {
	if len(b) < 8 {
		return a, false
	}
	family := sadb.Family(b[0])
	a = Address{
		Link: int(native.Uint32(b[4:])), Flags: uint32(b[2]), Valid: NoLease,
		Loopback: b[3] == unix.RT_SCOPE_HOST,
	}
	var addr, local netip.Addr
	for rest := netlink.Attrs(b[8:]); ; {
		typ, data, more := rest.Next()
		if !more {
			break
		}
		switch typ {
		case unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(data)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(data)
		case unix.IFA_FLAGS:
			if v, good := netlink.Uint32(data); good {
				a.Flags = v
			}
		case unix.IFA_CACHEINFO:
			if len(data) >= 8 {
				a.Valid = native.Uint32(data[4:])
			}
		}
	}
	// With a peer, IFA_ADDRESS is the peer's.
	if local.IsValid() {
		addr = local
	}
	if !addr.IsValid() || sadb.FamilyOf(addr) != family || int(b[1]) > addr.BitLen() {
		return a, false
	}
	a.Prefix = netip.PrefixFrom(addr, int(b[1]))
	return a, true
}
