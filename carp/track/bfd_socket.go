package track

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/bfd"
	"sasyncd/carp/link"
)

// Source ports of control packets (RFC 5881 section 4).
const firstSource, lastSource = 49152, 65535

// networkControl is the traffic class of control packets, CS6 (RFC 4594).
const networkControl = 0xc0

// receiver hears the neighbors of one address family.
type receiver struct {
	fd    int // -1: not open
	at    netip.AddrPort
	retry time.Duration // when to open it
	err   error         // why it is not open
	b     [bfd.Length + 40]byte
	oob   [128]byte
}

// datagram is what has arrived. data is valid until the next one is read.
type datagram struct {
	from  netip.Addr // without a zone
	hops  int        // TTL or hop limit, -1 not known
	index int        // of the interface
	data  []byte
}

// open opens the socket. It is nobody else's: with two programs on the port, one
// would hear what is for the other.
func (r *receiver) open(now time.Duration, poll *link.Poller) {
	r.close()
	err := r.listen()
	if err == nil {
		err = poll.Add(r.fd)
	}
	if err != nil {
		r.fail(now, fmt.Errorf("listen on UDP port %d: %w", r.at.Port(), err))
		return
	}
	r.retry, r.err = carp.Never, nil
}

func (r *receiver) listen() (err error) {
	family := unix.AF_INET
	if r.at.Addr().Is6() {
		family = unix.AF_INET6
	}
	r.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		r.fd = -1
		return err
	}
	options := [][2]int{{unix.IP_RECVTTL, 1}, {unix.IP_PKTINFO, 1}}
	level := unix.IPPROTO_IP
	if family == unix.AF_INET6 {
		level, options = unix.IPPROTO_IPV6, [][2]int{{unix.IPV6_V6ONLY, 1}, {unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPV6_RECVPKTINFO, 1}}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(r.fd, level, o[0], o[1]); err != nil {
			return err
		}
	}
	return unix.Bind(r.fd, sockaddr(r.at, 0))
}

// fail notes why the socket is not open, and when to try again.
func (r *receiver) fail(now time.Duration, err error) {
	r.close()
	r.err, r.retry = err, now+bfdRetry
}

func (r *receiver) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

// read reads one datagram and does not wait: the error is unix.EAGAIN if there is none.
func (r *receiver) read() (d datagram, err error) {
	n, oobn, _, from, err := unix.Recvmsg(r.fd, r.b[:], r.oob[:], 0)
	if err != nil {
		return d, err
	}
	d = datagram{hops: -1, data: r.b[:n]}
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		d.from = netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		d.from = netip.AddrFrom16(sa.Addr)
	}
	messages, err := unix.ParseSocketControlMessage(r.oob[:oobn])
	if err != nil {
		return d, nil //nolint:nilerr // what is missing is refused by its user
	}
	for _, m := range messages {
		switch [2]int32{m.Header.Level, m.Header.Type} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			d.hops = int(binary.NativeEndian.Uint32(m.Data))
		case [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}: // begins with the index
			d.index = int(binary.NativeEndian.Uint32(m.Data))
		case [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}: // the address is first
			d.index = int(binary.NativeEndian.Uint32(m.Data[16:]))
		}
	}
	return d, nil
}

// sender sends to one neighbor. The socket is opened when it is needed.
type sender struct {
	neighbor netip.Addr
	device   string     // "" any
	source   netip.Addr // invalid: what the kernel chooses
	// Of so many sessions this is the one with this number, which keeps its source
	// ports apart from the others'.
	number, of int

	fd    int   // -1: not open
	port  int   // source port, the same whenever it can be had; 0 none yet
	index int   // of the device
	err   error // why nothing can be sent
}

// send sends a packet to a port, if that is possible now.
func (s *sender) send(b []byte, to uint16) {
	if s.fd < 0 {
		if s.err = s.open(to); s.err != nil {
			s.err = fmt.Errorf("open UDP socket: %w", s.err)
			s.close()
			return
		}
	}
	_, err := unix.Write(s.fd, b)
	if err == unix.ECONNREFUSED { // said of an earlier packet: nobody listens there
		_, err = unix.Write(s.fd, b)
	}
	switch err {
	case nil, unix.ECONNREFUSED, unix.EAGAIN, unix.ENOBUFS, unix.EINTR: // sent, or lost like any other
		s.err = nil
	default:
		s.err = fmt.Errorf("send: %w", err)
		s.close()
	}
}

func (s *sender) open(to uint16) (err error) {
	family, level, hops, class := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL, unix.IP_TOS
	source := netip.IPv4Unspecified()
	if s.neighbor.Is6() {
		family, level, hops, class = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS
		source = netip.IPv6Unspecified()
	}
	if s.source.IsValid() {
		source = s.source
	}
	if s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		s.fd = -1
		return err
	}
	for _, o := range [][2]int{{hops, bfdHops}, {class, networkControl}} {
		if err := unix.SetsockoptInt(s.fd, level, o[0], o[1]); err != nil {
			return err
		}
	}
	if s.device != "" {
		if s.index, err = s.bindToDevice(); err != nil {
			return fmt.Errorf("use interface %s: %w", s.device, err)
		}
	}
	if err := s.bind(source); err != nil {
		return fmt.Errorf("bind to %v: %w", source, err)
	}
	return unix.Connect(s.fd, sockaddr(netip.AddrPortFrom(s.neighbor, to), s.index))
}

func (s *sender) bindToDevice() (index int, err error) {
	request, err := unix.NewIfreq(s.device)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), unix.BindToDevice(s.fd, s.device)
}

// bind takes a source port that no other session of this process uses.
func (s *sender) bind(source netip.Addr) (err error) {
	const tries = 100
	have := (lastSource - firstSource + 1) / s.of
	port := s.port
	for range tries {
		if port == 0 {
			port = firstSource + s.number + s.of*rand.IntN(have) //nolint:gosec // any will do
		}
		err = unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(source, uint16(port)), s.index))
		if err != unix.EADDRINUSE {
			break
		}
		port = 0
	}
	if err == nil {
		s.port = port
	}
	return err
}

func (s *sender) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// sockaddr is an address for the kernel; index is that of the interface, of which the
// kernel takes notice for link-local addresses.
func sockaddr(a netip.AddrPort, index int) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port()), ZoneId: uint32(index)}
}
