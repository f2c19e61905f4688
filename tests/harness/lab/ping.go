package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Ping sends ICMP echo requests from the node, one every 100 ms, until one is
// answered, and returns nil then, or an error after the limit.
func (nd *Node) Ping(dst netip.Addr, limit time.Duration) error {
	var fd int
	family, proto, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var to unix.Sockaddr = &unix.SockaddrInet4{}
	if dst.Is6() {
		family, proto, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		to = &unix.SockaddrInet6{Addr: dst.As16()}
	} else {
		to.(*unix.SockaddrInet4).Addr = dst.As4()
	}
	err := nd.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		return err
	})
	if err != nil {
		return fmt.Errorf("ping %v from %s: open socket: %w", dst, nd.Name, err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("ping %v from %s: %w", dst, nd.Name, err)
	}
	echo := []byte{request, 0, 0, 0, 0x5a, 0xa5, 0, 0}
	buf := make([]byte, 1500)
	for start := time.Now(); time.Since(start) < limit; {
		binary.BigEndian.PutUint16(echo[6:], binary.BigEndian.Uint16(echo[6:])+1)
		if !dst.Is6() { // of ICMPv6 the kernel computes the checksum
			binary.BigEndian.PutUint16(echo[2:], 0)
			binary.BigEndian.PutUint16(echo[2:], onesComplement(echo))
		}
		if err := unix.Sendto(fd, echo, 0, to); err != nil {
			time.Sleep(100 * time.Millisecond) // no route yet, or no neighbour
			continue
		}
		for sent := time.Now(); time.Since(sent) < 100*time.Millisecond; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				break
			}
			b := buf[:n]
			if !dst.Is6() && n > 20 { // comes with its IP header
				b = b[int(b[0]&15)*4:]
			}
			if len(b) >= 8 && b[0] == reply && b[4] == echo[4] && b[5] == echo[5] {
				return nil
			}
		}
	}
	return fmt.Errorf("ping %v from %s: no answer in %v", dst, nd.Name, limit)
}

// onesComplement is the checksum of RFC 1071.
func onesComplement(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
