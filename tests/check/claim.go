package check

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

const claimLimit = 300 * time.Millisecond

// claimants asks on the network who has an address, as ARP or neighbour discovery
// does, and returns the Ethernet addresses of all that say they do, ascending.
func claimants(nd *lab.Node, dev string, addr netip.Addr) (macs []string, err error) {
	err = nd.Do(func() error {
		l, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		all := uint16(unix.ETH_P_ALL)
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: l.Index}); err != nil {
			return err
		}
		limit := unix.NsecToTimeval(int64(50 * time.Millisecond))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		question, err := whoHas(l, addr)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, question); err != nil {
			return err
		}
		var buf [1500]byte
		for end := time.Now().Add(harness.Scaled(claimLimit)); time.Now().Before(end); {
			n, err := unix.Read(fd, buf[:])
			if err != nil {
				continue // nothing came
			}
			if mac, ok := claims(buf[:n], addr); ok && !slices.Contains(macs, mac.String()) {
				macs = append(macs, mac.String())
			}
		}
		return nil
	})
	slices.Sort(macs)
	return macs, err
}

// whoHas is the frame that asks for an address.
func whoHas(l *net.Interface, addr netip.Addr) ([]byte, error) {
	own, err := ownAddr(l, addr.Is6())
	if err != nil {
		return nil, err
	}
	mac := l.HardwareAddr
	if addr.Is4() { // RFC 826
		b := append(bytes.Repeat([]byte{0xff}, 6), mac...)
		b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
		b = append(append(b, mac...), own.AsSlice()...)
		return append(append(b, make([]byte, 6)...), addr.AsSlice()...), nil
	}
	// RFC 4861, 4.3
	to := addr.As16()
	group := append([]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}, to[13:]...)
	icmp := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, to[:]...)
	icmp = append(append(icmp, 1, 1), mac...)
	pseudo := append(append(own.AsSlice(), group...), 0, 0, 0, byte(len(icmp)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(pseudo, icmp...)))
	b := append([]byte{0x33, 0x33}, group[12:]...)
	b = append(append(b, mac...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), 58, 255)
	return append(append(append(b, own.AsSlice()...), group...), icmp...), nil
}

// claims reports whether a frame says that an address is at an Ethernet address.
func claims(f []byte, addr netip.Addr) (net.HardwareAddr, bool) {
	switch {
	case len(f) < 42:
		return nil, false
	case addr.Is4():
		reply := binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 2
		return net.HardwareAddr(slices.Clone(f[22:28])), reply && bytes.Equal(f[28:32], addr.AsSlice())
	case binary.BigEndian.Uint16(f[12:]) != 0x86dd || len(f) < 78 || f[20] != 58 || f[54] != 136:
		return nil, false
	}
	return net.HardwareAddr(slices.Clone(f[6:12])), bytes.Equal(f[62:78], addr.AsSlice())
}

func ownAddr(l *net.Interface, six bool) (netip.Addr, error) {
	list, err := l.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() == six && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, unix.EADDRNOTAVAIL
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
