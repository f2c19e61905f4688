package engine

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/packet"
)

// Type of service of VRRP: network control (RFC 9568 leaves it open, all others
// send this).
const tosControl = 0xc0

var errNoInterface = errors.New("interface is not there")

// send advertises r, to its group or to each peer.
func (e *Engine) send(r *router, a carp.Action) error {
	if r.port.fd < 0 || !r.src.IsValid() {
		return errNoInterface
	}
	if len(r.Peers) == 0 {
		return e.sendGroup(r, a)
	}
	var failed error
	for _, peer := range r.Peers {
		if err := e.sendPeer(r, a, peer); err != nil {
			failed = err
		}
	}
	return failed
}

// message encodes action a for dst. The result is valid until the next call.
func (e *Engine) message(r *router, a carp.Action, dst netip.Addr) ([]byte, error) {
	if r.carp != nil {
		return e.appendCARP(e.body[:0], r, a), nil
	}
	m := &e.sendMsg
	m.Version, m.ID, m.Priority, m.Interval = 3, r.Machine.ID, a.Priority, r.Machine.Interval
	if r.group.frozenTo != 0 {
		m.Interval = r.interval(bootTime())
	}
	m.Addrs, m.Checksum, m.AuthType, m.Auth, m.Trailer = r.VIPs[:r.advertised], r.checksum, 0, [8]byte{}, nil
	if r.Machine.Proto == carp.VRRP2 {
		m.Version = 2
		if r.Auth != "" {
			m.AuthType = packet.VRRP2AuthSimple
			copy(m.Auth[:], r.Auth)
		}
	}
	b, err := m.Append(e.body[:0], r.src, dst)
	if err == nil && m.Version == 3 && r.auth.Signs() {
		// The checksum of IPv6 covers the trailer, the trailer does not cover
		// the checksum.
		m.Trailer = e.appendTrailer(e.trailer[:0], b, r)
		b, err = m.Append(e.body[:0], r.src, dst)
	}
	return b, err
}

func (e *Engine) sendGroup(r *router, a carp.Action) error {
	dst := r.Router.group()
	f := packet.Frame{
		Dst: packet.GroupMAC(dst), Src: r.port.mac, SrcIP: r.src, DstIP: dst,
		TOS: tosControl, TTL: packet.TTL, Proto: packet.Protocol, ID: r.id,
	}
	if r.Virtual {
		f.Src = r.virtualMAC() // so that switches learn where it is
	}
	if r.carp != nil {
		f.Src, f.TOS, f.DontFragment = r.virtualMAC(), tosCARP, true
	}
	r.id++
	m, err := e.message(r, a, dst)
	if err == nil {
		f.Payload = m
		var b []byte
		if b, err = f.Append(e.tx[:0]); err == nil {
			_, err = unix.Write(r.port.fd, b)
		}
	}
	if err != nil {
		return fmt.Errorf("send advertisement: %w", err)
	}
	r.tx.Add(1)
	return nil
}

func (e *Engine) sendPeer(r *router, a carp.Action, peer netip.Addr) error {
	b, err := e.message(r, a, peer)
	if err != nil {
		return fmt.Errorf("send advertisement to %v: %w", peer, err)
	}
	if peer.Is4() {
		err = unix.Sendto(r.port.uni4, b, 0, &unix.SockaddrInet4{Addr: peer.As4()})
	} else {
		to := &unix.SockaddrInet6{Addr: peer.As16()}
		if peer.IsLinkLocalUnicast() {
			to.ZoneId = uint32(r.port.index)
		}
		err = unix.Sendto(r.port.uni6, b, 0, to)
	}
	if err != nil {
		return fmt.Errorf("send advertisement to %v: %w", peer, err)
	}
	r.tx.Add(1)
	return nil
}

// bindUnicast makes the raw sockets send from src, which the checksum covers.
func (p *port) bindUnicast(src netip.Addr) error {
	var err error
	switch {
	case src.Is4() && p.uni4 >= 0:
		err = unix.Bind(p.uni4, &unix.SockaddrInet4{Addr: src.As4()})
	case src.Is6() && p.uni6 >= 0:
		sa := &unix.SockaddrInet6{Addr: src.As16()}
		if src.IsLinkLocalUnicast() {
			sa.ZoneId = uint32(p.index)
		}
		err = unix.Bind(p.uni6, sa)
	}
	if err != nil {
		return fmt.Errorf("bind to %v: %w", src, err)
	}
	return nil
}
