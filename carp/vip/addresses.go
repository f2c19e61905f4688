package vip

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// Assigned is an address that an interface has, virtual or not.
type Assigned struct {
	IP    netip.Addr
	Net   netip.Prefix // the network that it is in, of a point-to-point link the other end's
	Flags uint32       // IFA_F_* of linux/if_addr.h
}

// answerLimit is for the kernel to answer.
var answerLimit = unix.Timeval{Sec: 10}

// Addresses reads the addresses of the interface with an index, or of all
// interfaces with 0, in the network namespace of the calling thread. ENODEV means
// that there is no such interface. A list that changed in every try comes with an
// error for which dump.Interrupted is true, and may lack entries.
//
// The kernel is asked for one interface (NETLINK_GET_STRICT_CHK, Linux 4.20): such
// a list mostly fits into one piece of the answer, which cannot be torn, whatever
// happens to other interfaces. Older kernels send all.
func Addresses(index int) ([]Assigned, error) {
	list, err := dump.List(func() ([]Assigned, error) { return addresses(index) })
	if err != nil {
		err = fmt.Errorf("read addresses: %w", err)
	}
	return list, err
}

func addresses(index int) (list []Assigned, _ error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.SetReceiveTimeout(&answerLimit); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	msg := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	msg.Index = uint32(index)
	req.AddData(msg)
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil && !dump.Interrupted(err) {
		return nil, err
	}
	for _, m := range msgs {
		if a, link, ok := assigned(m); ok && (index == 0 || link == index) {
			list = append(list, a)
		}
	}
	return list, err
}

// assigned reads an RTM_NEWADDR message (struct ifaddrmsg).
func assigned(b []byte) (a Assigned, link int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, 0, false
	}
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, 0, false
	}
	h := nl.DeserializeIfAddrmsg(b)
	a.Flags = uint32(h.Flags)
	var local, far netip.Addr
	for _, at := range attrs {
		switch at.Attr.Type {
		case unix.IFA_ADDRESS: // with a peer it is the peer's, and IFA_LOCAL is ours
			far, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(at.Value)
		case unix.IFA_FLAGS:
			if len(at.Value) >= 4 {
				a.Flags = nl.NativeEndian().Uint32(at.Value)
			}
		}
	}
	if a.IP = local; !local.IsValid() {
		a.IP = far
	}
	if !far.IsValid() {
		far = local
	}
	a.Net, _ = far.Prefix(int(h.Prefixlen))
	return a, int(h.Index), a.IP.IsValid()
}
