package claims

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
)

// turn is how often something is done: a tenth of the addresses is asked for in each, so
// that many of them make no burst.
const turn = AskEvery / 10

// mostRead is how many frames are read in a turn: whoever floods the network with claims
// does not get the processor for it.
const mostRead = 1000

// Watcher asks and listens. Of one goroutine.
type Watcher struct {
	Book *Book
	// Targets returns what is to be asked for now.
	Targets func() []Target
	// Now is the clock.
	Now func() time.Duration

	links  map[string]*link
	turns  int
	budget int       // frames that may be read in this turn
	buf    [256]byte // what is longer is neither ARP nor a plain neighbour advertisement
}

// link is the socket on an interface.
type link struct {
	fd     int
	index  int
	mac    packet.MAC
	ip4    netip.Addr // own addresses to ask from
	ip6    netip.Addr
	ips    []netip.Addr // that the socket's filter accepts
	wanted bool
}

// Run asks and listens until ctx ends, in the network namespace of the process. What
// cannot be done now is tried again: an interface may come and go.
func (w *Watcher) Run(ctx context.Context) {
	w.links = make(map[string]*link)
	defer func() {
		for _, l := range w.links {
			l.close()
		}
	}()
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		w.ask()
		w.budget = mostRead
		for end := time.Now().Add(turn); ctx.Err() == nil; {
			if !w.listen(time.Until(end)) {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask opens what is missing and sends the questions of this turn.
func (w *Watcher) ask() {
	targets := w.Targets()
	w.turns++
	for _, l := range w.links {
		l.wanted = false
	}
	for _, t := range targets {
		l := w.links[t.Device]
		if l == nil {
			l = &link{fd: -1}
			w.links[t.Device] = l
		}
		l.wanted = true
		if (w.turns-1)%10 == 0 || l.fd < 0 || !slices.Equal(l.ips, t.IPs) {
			if err := l.look(t); err != nil {
				l.close()
				continue
			}
		}
		for i, ip := range t.IPs {
			if i%10 != w.turns%10 {
				continue
			}
			if b := l.question(ip); b != nil {
				if _, err := unix.Write(l.fd, b); err == nil {
					w.Book.Asked(ip, w.Now())
				}
			}
		}
	}
	for name, l := range w.links {
		if !l.wanted {
			l.close()
			delete(w.links, name)
		}
	}
}

// look finds the interface and its own addresses, and opens the socket if it is another
// one than before.
func (l *link) look(t Target) error {
	dev, err := net.InterfaceByName(t.Device)
	if err != nil {
		return fmt.Errorf("look up interface %s: %w", t.Device, err)
	}
	if len(dev.HardwareAddr) != len(l.mac) {
		return errors.New("no Ethernet")
	}
	list, err := vip.Addresses(dev.Index)
	if err != nil {
		return err
	}
	l.ip4, l.ip6 = netip.Addr{}, netip.Addr{}
	for _, a := range list {
		switch {
		case slices.Contains(t.IPs, a.IP) || a.Flags&unix.IFA_F_TENTATIVE != 0:
		case a.IP.Is4() && !l.ip4.IsValid():
			l.ip4 = a.IP
		case a.IP.IsLinkLocalUnicast() && !l.ip6.IsValid():
			l.ip6 = a.IP
		}
	}
	if l.fd >= 0 && l.index == dev.Index && l.mac == packet.MAC(dev.HardwareAddr) && slices.Equal(l.ips, t.IPs) {
		return nil
	}
	l.close()
	l.index, l.mac, l.ips = dev.Index, packet.MAC(dev.HardwareAddr), t.IPs
	l.fd, err = open(dev.Index, filter(t.IPs))
	return err
}

func (l *link) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
	l.fd = -1
}

// question asks who has an address; nil if there is no address to ask from.
func (l *link) question(ip netip.Addr) []byte {
	switch {
	case ip.Is4() && l.ip4.IsValid():
		return packet.AppendARPRequest(nil, l.mac, l.ip4, ip)
	case ip.Is6() && l.ip6.IsValid():
		return packet.AppendSolicitation(nil, l.mac, l.ip6, ip)
	}
	return nil
}

// listen waits for frames as long as limit, and reads them. False: the time is over, or
// enough has been read of this turn.
func (w *Watcher) listen(limit time.Duration) bool {
	if limit <= 0 || w.budget <= 0 {
		return false
	}
	var fds []unix.PollFd
	for _, l := range w.links {
		if l.fd >= 0 {
			fds = append(fds, unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN})
		}
	}
	// At most 200 ms, so that the end of the context is noticed.
	if _, err := unix.Poll(fds, int(min(limit, 200*time.Millisecond)/time.Millisecond)+1); err != nil &&
		!errors.Is(err, unix.EINTR) {
		return false
	}
	for _, f := range fds {
		if f.Revents == 0 {
			continue
		}
		for ; w.budget > 0; w.budget-- {
			n, err := unix.Read(int(f.Fd), w.buf[:])
			if err != nil {
				break // nothing more, or the interface is down
			}
			if ip, mac, ok := packet.ParseClaim(w.buf[:n]); ok {
				w.Book.Claimed(ip, mac, w.Now())
			}
		}
	}
	return true
}

// open opens a packet socket that gets what the filter accepts.
func open(index int, prog []unix.SockFilter) (fd int, err error) {
	// Protocol 0 first, so that nothing gets in before the filter stands.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &f)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	}
	if err == nil {
		all := uint16(unix.ETH_P_ALL)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	return fd, nil
}

// mostFiltered is for how many addresses the filter looks. With more, everything of the
// protocols gets through.
const mostFiltered = 500

// filter accepts ARP and neighbour advertisements about the addresses, of the interface
// itself and of none of the VLANs on it. The kernel drops the rest, so that the chatter
// of a network wakes nobody.
func filter(ips []netip.Addr) []unix.SockFilter {
	const (
		loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		loadHalf  = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadByte  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		and       = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		jump      = unix.BPF_JMP | unix.BPF_JA
		ret       = unix.BPF_RET | unix.BPF_K
		// Offsets in a frame.
		etherType, arpSender   = 12, 14 + 14
		nextHeader, icmpType   = 14 + 6, 14 + 40
		targetEnd              = 14 + 40 + 8 + 12
		ipv6, arp, icmp6, adv6 = 0x86dd, 0x0806, 58, 136
	)
	accept, reject := unix.SockFilter{Code: ret, K: 1 << 16}, unix.SockFilter{Code: ret, K: 0}
	var four, six []unix.SockFilter
	for _, ip := range ips {
		b := ip.AsSlice()
		b = b[len(b)-4:]
		word := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		list := &four
		if ip.Is6() {
			list = &six
		}
		*list = append(*list, unix.SockFilter{Code: jumpEqual, K: word, Jf: 1}, accept)
	}
	if len(ips) > mostFiltered {
		four, six = []unix.SockFilter{accept}, []unix.SockFilter{accept}
	}
	four = append(append([]unix.SockFilter{{Code: loadWord, K: arpSender}}, four...), reject)
	six = append(append([]unix.SockFilter{{Code: loadWord, K: targetEnd}}, six...), reject)
	prog := []unix.SockFilter{
		{Code: loadWord, K: packet.FilterVLANPresent},
		{Code: jumpEqual, K: 0, Jt: 4}, // no tag
		{Code: loadWord, K: packet.FilterVLANTag},
		{Code: and, K: packet.VLANID},
		{Code: jumpEqual, K: 0, Jt: 1},
		reject,
		{Code: loadHalf, K: etherType},
		{Code: jumpEqual, K: arp, Jf: 1},
		{Code: jump}, // to the part of ARP, see below
		{Code: jumpEqual, K: ipv6, Jt: 1},
		reject,
		{Code: loadByte, K: nextHeader},
		{Code: jumpEqual, K: icmp6, Jt: 1},
		reject,
		{Code: loadByte, K: icmpType},
		{Code: jumpEqual, K: adv6, Jf: 1},
		{Code: jump, K: uint32(1 + len(four))}, // over what rejects, and the part of ARP
		reject,
	}
	prog[8].K = uint32(len(prog) - 9)
	return append(append(prog, four...), six...)
}
