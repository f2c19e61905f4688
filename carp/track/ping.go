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
	fail    int // failures in a row, from which on it counts as gone
	seq     uint16
	missed  int
	bad     bool
	open    func(netip.Addr) (echoer, error) // nil: of the kernel
}

// check asks once. It fails from the configured number of failures in a row on,
// and is good again with the first answer.
func (p *pinger) check(context.Context) error {
	err := p.ask()
	if err == nil {
		p.missed, p.bad = 0, false
		return nil
	}
	if p.missed++; p.missed >= p.fail {
		p.bad = true
	}
	if p.bad {
		return errSilent // always the same words, so that they are told once
	}
	return nil
}

func (p *pinger) ask() error {
	open := p.open
	if open == nil {
		open = func(a netip.Addr) (echoer, error) { return openEcho(a) }
	}
	s, err := open(p.addr)
	if err != nil {
		return err
	}
	defer s.Close()
	p.seq++
	if err := s.Send(p.seq); err != nil {
		return err
	}
	for end := time.Now().Add(p.timeout); ; {
		left := time.Until(end)
		if left <= 0 {
			return errSilent
		}
		if seq, ok, err := s.Receive(left); err != nil || ok && seq == p.seq {
			return err
		}
	}
}

// echoSocket asks one address.
type echoSocket struct {
	fd   int
	addr netip.Addr
	id   uint16
}

// openEcho opens a raw socket, which needs CAP_NET_RAW.
func openEcho(addr netip.Addr) (*echoSocket, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if addr.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	return &echoSocket{fd: fd, addr: addr, id: uint16(fd)<<8 ^ uint16(unix.Getpid())}, nil
}

// Close closes the socket.
func (s *echoSocket) Close() { unix.Close(s.fd) }

// Send sends an echo request.
func (s *echoSocket) Send(seq uint16) error {
	b := make([]byte, echoLength)
	binary.BigEndian.PutUint16(b[4:], s.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	var to unix.Sockaddr
	if s.addr.Is6() {
		b[0] = echo6 // the kernel fills in the checksum
		to = &unix.SockaddrInet6{Addr: s.addr.As16()}
	} else {
		b[0] = echo4
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		to = &unix.SockaddrInet4{Addr: s.addr.As4()}
	}
	if err := unix.Sendto(s.fd, b, 0, to); err != nil {
		return fmt.Errorf("send echo: %w", err)
	}
	return nil
}

// Receive waits for one packet. ok says that it was a reply of the address to
// us; nothing within wait is no error.
func (s *echoSocket) Receive(wait time.Duration) (seq uint16, ok bool, err error) {
	limit := unix.NsecToTimeval(int64(max(wait, time.Microsecond)))
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, false, fmt.Errorf("set time limit: %w", err)
	}
	var in [1500]byte
	n, from, err := unix.Recvfrom(s.fd, in[:], 0)
	switch err {
	case nil:
	case unix.EINTR, unix.EAGAIN:
		return 0, false, nil
	default:
		return 0, false, errSilent
	}
	seq, ok = answers(in[:n], from, s.addr, s.id)
	return seq, ok, nil
}

// answers reports whether a packet is a reply of addr to id, and to which
// request. A raw socket gets everybody's.
func answers(b []byte, from unix.Sockaddr, addr netip.Addr, id uint16) (seq uint16, ok bool) {
	kind := byte(reply6)
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		if len(b) < 20 || len(b) < int(b[0]&15)*4 || netip.AddrFrom4(sa.Addr) != addr {
			return 0, false
		}
		kind, b = reply4, b[int(b[0]&15)*4:]
	case *unix.SockaddrInet6:
		if netip.AddrFrom16(sa.Addr) != addr.WithZone("") {
			return 0, false
		}
	default:
		return 0, false
	}
	if len(b) < 8 || b[0] != kind || binary.BigEndian.Uint16(b[4:]) != id {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:]), true
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
