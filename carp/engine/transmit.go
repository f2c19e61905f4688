package engine

import (
	"errors"
	"fmt"
	"net/netip"

	"sasyncd/carp"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
)

// Type of service of VRRP: network control (RFC 9568 leaves it open, all others
// send this).
const tosControl = 0xc0

var (
	errNoInterface = errors.New("interface is not there")
	errNoSource    = errors.New("the interface has no address of that kind")
)

// send advertises r, to its group or to each peer.
func (e *Engine) send(r *router, a carp.Action) error {
	if r.port.FD() < 0 || !r.src.IsValid() {
		return errNoInterface
	}
	if len(r.Peers) == 0 {
		return e.sendGroup(r, a)
	}
	var failed error
	for i := range r.paths {
		if err := e.sendPeer(r, a, &r.paths[i]); err != nil {
			failed = err
		}
	}
	return failed
}

// message encodes action a for a packet from src to dst. The result is valid
// until the next call.
func (e *Engine) message(r *router, a carp.Action, src, dst netip.Addr) ([]byte, error) {
	if r.carp != nil {
		return e.appendCARP(e.thread.body[:0], r, a, src), nil
	}
	m := &e.thread.sendMsg
	m.Version, m.ID, m.Priority, m.Interval = 3, r.Machine.ID, a.Priority, r.Machine.Interval
	if r.group.frozenTo != 0 {
		m.Interval = r.interval(link.BootTime())
	}
	m.Addrs, m.Checksum, m.AuthType, m.Auth, m.Trailer = r.VIPs[:r.advertised], r.checksum, 0, [8]byte{}, nil
	if r.Machine.Proto == carp.VRRP2 {
		m.Version = 2
		if r.Auth != "" {
			m.AuthType = packet.VRRP2AuthSimple
			copy(m.Auth[:], r.Auth)
		}
	}
	b, err := m.Append(e.thread.body[:0], src, dst)
	if err == nil && m.Version == 3 && r.auth.Signs() {
		// The checksum of IPv6 covers the trailer, the trailer does not cover
		// the checksum.
		m.Trailer = e.appendTrailer(e.thread.trailer[:0], b, r, src)
		b, err = m.Append(e.thread.body[:0], src, dst)
	}
	return b, err
}

func (e *Engine) sendGroup(r *router, a carp.Action) error {
	dst := r.Router.group()
	f := packet.Frame{
		Dst: packet.GroupMAC(dst), Src: r.sender(), SrcIP: r.src, DstIP: dst,
		TOS: tosControl, TTL: packet.TTL, Proto: packet.Protocol, ID: r.id,
	}
	if r.carp != nil {
		f.TOS, f.DontFragment = tosCARP, true
	}
	r.id++
	m, err := e.message(r, a, r.src, dst)
	if err == nil {
		f.Payload = m
		var b []byte
		if b, err = f.Append(e.thread.tx[:0]); err == nil {
			err = r.port.Write(b)
		}
	}
	if err != nil {
		return fmt.Errorf("send advertisement: %w", err)
	}
	r.tx.Add(1)
	return nil
}

func (e *Engine) sendPeer(r *router, a carp.Action, p *link.Path) error {
	if !p.Src.IsValid() {
		return fmt.Errorf("send advertisement to %v: %w", p.Peer, errNoSource)
	}
	b, err := e.message(r, a, p.Src, p.Peer)
	if err == nil {
		err = r.port.Send(b, p)
	}
	if err != nil {
		return fmt.Errorf("send advertisement from %v to %v: %w", p.Src, p.Peer, err)
	}
	r.tx.Add(1)
	return nil
}

// sender is the MAC that multicast advertisements come from: the protocol's where
// switches are to learn where that is.
func (r *router) sender() packet.MAC {
	if r.Virtual || r.carp != nil {
		return r.virtualMAC()
	}
	return r.port.mac
}
