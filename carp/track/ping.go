package track

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP echo of both families (RFC 792, RFC 4443 section 4).
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
	echoLength    = 16
)

var errSilent = errors.New("address does not answer")

// pinger asks an address for an echo. One lost packet proves nothing.
type pinger struct {
	addr    netip.Addr
	timeout time.Duration
	seq     uint16
	missed  int
	bad     bool
}

// check asks once. It fails from the third failure in a row on, and is good
// again with the first answer.
func (p *pinger) check(context.Context) error {
	err := p.ask()
	if err == nil {
		p.missed, p.bad = 0, false
		return nil
	}
	if p.missed++; p.missed >= misses {
		p.bad = true
	}
	if p.bad {
		return errSilent // always the same words, so that they are told once
	}
	return nil
}

func (p *pinger) ask() error {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if p.addr.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return fmt.Errorf("open ICMP socket: %w", err)
	}
	defer unix.Close(fd)
	return p.exchange(fd, family)
}

func (p *pinger) exchange(fd, family int) error {
	p.seq++
	id := uint16(fd)<<8 ^ uint16(unix.Getpid())
	b := make([]byte, echoLength)
	var to unix.Sockaddr
	if family == unix.AF_INET {
		b[0] = echo4
		to = &unix.SockaddrInet4{Addr: p.addr.As4()}
	} else {
		b[0] = echo6 // the kernel fills in the checksum
		to = &unix.SockaddrInet6{Addr: p.addr.As16()}
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], p.seq)
	if family == unix.AF_INET {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	if err := unix.Sendto(fd, b, 0, to); err != nil {
		return fmt.Errorf("send echo: %w", err)
	}
	var in [1500]byte
	for end := time.Now().Add(p.timeout); ; {
		left := time.Until(end)
		if left <= 0 {
			return errSilent
		}
		wait := unix.NsecToTimeval(int64(max(left, time.Microsecond)))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return fmt.Errorf("set time limit: %w", err)
		}
		n, from, err := unix.Recvfrom(fd, in[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return errSilent
		}
		if p.answers(in[:n], from, id) {
			return nil
		}
	}
}

// answers reports whether a packet is the reply. A raw socket gets everybody's.
func (p *pinger) answers(b []byte, from unix.Sockaddr, id uint16) bool {
	kind := byte(reply6)
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		if len(b) < 20 || len(b) < int(b[0]&15)*4 || netip.AddrFrom4(sa.Addr) != p.addr {
			return false
		}
		kind, b = reply4, b[int(b[0]&15)*4:]
	case *unix.SockaddrInet6:
		if netip.AddrFrom16(sa.Addr) != p.addr.WithZone("") {
			return false
		}
	default:
		return false
	}
	return len(b) >= 8 && b[0] == kind && binary.BigEndian.Uint16(b[4:]) == id && binary.BigEndian.Uint16(b[6:]) == p.seq
}

// checksum is that of RFC 1071 over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
