package link

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
)

// receiveBuffer holds adverts while the process is stopped, in bytes.
const receiveBuffer = 256 << 10

// Port is the sockets of an interface on which we elect. It is of one goroutine.
type Port struct {
	Device string
	Index  int // 0: the interface does not exist
	// Unicast4 and Unicast6: members are spoken to by unicast. To be set before Open.
	Unicast4, Unicast6 bool

	fd     int // packet socket, for receiving and for multicast
	group4 int // holds the membership in the group
	group6 int
	uni4   int // raw sockets for unicast, -1 if not used
	uni6   int
}

// NewPort returns the port of an interface, without sockets.
func NewPort(device string) *Port {
	return &Port{Device: device, fd: -1, group4: -1, group6: -1, uni4: -1, uni6: -1}
}

// Use gives the port a descriptor in place of its packet socket, -1 for none; for tests.
func (p *Port) Use(fd int) { p.fd = fd }

// FD is the descriptor that can be read when something has arrived, -1 without sockets.
func (p *Port) FD() int { return p.fd }

// Read reads one frame into b. It does not wait: the error is unix.EAGAIN if there is none.
func (p *Port) Read(b []byte) (int, error) { return unix.Read(p.fd, b) }

// Write sends a frame.
func (p *Port) Write(frame []byte) error {
	_, err := unix.Write(p.fd, frame)
	return err
}

// Send sends the payload of a packet to the member at the end of a path.
func (p *Port) Send(payload []byte, to *Path) error {
	fd := p.uni4
	if to.Peer.Is6() {
		fd = p.uni6
	}
	_, err := unix.SendmsgN(fd, payload, to.control, to.to, 0)
	return err
}

// Open makes the sockets for an interface that has appeared.
func (p *Port) Open(index int) (err error) {
	p.Close()
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	p.Index = index
	if p.fd, err = packetSocket(index); err != nil {
		return err
	}
	if p.group4, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open socket for group: %w", err)
	}
	mreq := unix.IPMreqn{Multiaddr: packet.Group4().As4(), Ifindex: int32(index)}
	if err = unix.SetsockoptIPMreqn(p.group4, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &mreq); err != nil {
		return fmt.Errorf("join group on %s: %w", p.Device, err)
	}
	p.group6, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		mreq6 := unix.IPv6Mreq{Multiaddr: packet.Group6().As16(), Interface: uint32(index)}
		err = unix.SetsockoptIPv6Mreq(p.group6, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &mreq6)
	}
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("join group on %s: %w", p.Device, err)
	}
	if p.Unicast4 {
		if p.uni4, err = unicastSocket(unix.AF_INET, p.Device); err != nil {
			return err
		}
	}
	if p.Unicast6 {
		if p.uni6, err = unicastSocket(unix.AF_INET6, p.Device); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the sockets.
func (p *Port) Close() {
	for _, fd := range []*int{&p.fd, &p.group4, &p.group6, &p.uni4, &p.uni6} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	p.Index = 0
}

// packetSocket opens a socket that gets the advertisements that arrive on an
// interface, and those only. It listens for all ethertypes, because that is
// where frames with our own virtual source address still show up.
func packetSocket(index int) (fd int, err error) {
	// Protocol 0 first, so that nothing gets in before the filter stands.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	filter := advertFilter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return -1, fmt.Errorf("set packet filter: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return -1, fmt.Errorf("ignore outgoing packets: %w", err)
	}
	// Best effort: with privilege beyond the system's limit, and ahead of the
	// queue when the link is full.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 7)
	for _, group := range []netip.Addr{packet.Group4(), packet.Group6()} {
		mac := packet.GroupMAC(group)
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
		copy(mreq.Address[:], mac[:])
		if err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return -1, fmt.Errorf("receive group: %w", err)
		}
	}
	all := uint16(unix.ETH_P_ALL)
	if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}); err != nil {
		return -1, fmt.Errorf("bind packet socket: %w", err)
	}
	return fd, nil
}

// unicastSocket opens a raw socket that sends only: what arrives is read from the
// packet socket. The kernel finds the way to the peer.
func unicastSocket(family int, device string) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, packet.Protocol)
	if err != nil {
		return -1, fmt.Errorf("open raw socket: %w", err)
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	prog := unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]}
	if err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err == nil {
		err = unix.BindToDevice(fd, device)
	}
	if err == nil {
		if family == unix.AF_INET {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, packet.TTL)
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, packet.TTL)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up raw socket: %w", err)
	}
	return fd, nil
}

// advertFilter accepts IPv4 and IPv6 packets of protocol 112 that are of the
// interface itself, and of no VLAN on it. A frame with a second tag has neither
// ethertype.
func advertFilter() []unix.SockFilter {
	const (
		loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		and       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		loadHalf  = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadByte  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret       = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: loadWord, K: packet.FilterVLANPresent},
		{Code: jumpEqual, K: 0, Jt: 3},
		{Code: loadWord, K: packet.FilterVLANTag},
		{Code: and, K: packet.VLANID},
		{Code: jumpEqual, K: 0, Jt: 0, Jf: 8},
		{Code: loadHalf, K: 12},                      // ethertype
		{Code: jumpEqual, K: 0x0800, Jt: 0, Jf: 2},   // IPv4?
		{Code: loadByte, K: 14 + 9},                  // protocol
		{Code: jumpEqual, K: packet.Protocol, Jt: 3}, // accept
		{Code: jumpEqual, K: 0x86dd, Jt: 0, Jf: 3},   // IPv6? (A holds the ethertype, or a protocol that never equals)
		{Code: loadByte, K: 14 + 6},                  // next header
		{Code: jumpEqual, K: packet.Protocol, Jt: 0, Jf: 1},
		{Code: ret, K: 1 << 16},
		{Code: ret, K: 0},
	}
}
