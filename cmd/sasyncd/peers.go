package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sasyncd/cmd/internal/conf"
	"sasyncd/kernel/link"
	"sasyncd/sync/channel"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// sessions hands what the peers' manager reports to the engine, and gossip to
// the membership, which never meet.
type sessions struct {
	*peer.Manager
	events  chan engine.PeerEvent
	members *members.Members

	mu   sync.Mutex
	open map[wire.NodeID]*peer.Session
}

var _ engine.Session = (*peer.Session)(nil)

func newSessions(m *peer.Manager) *sessions {
	return &sessions{Manager: m, events: make(chan engine.PeerEvent), open: make(map[wire.NodeID]*peer.Session)}
}

// gossip sends a payload to a neighbour.
func (s *sessions) gossip(to wire.NodeID, payload []byte) bool {
	s.mu.Lock()
	x := s.open[to]
	s.mu.Unlock()
	return x != nil && x.Send(&wire.Gossip{Payload: payload})
}

// neighbour notes that a session began or ended.
func (s *sessions) neighbour(x *peer.Session, up bool) {
	id := x.Hello().Node
	s.mu.Lock()
	if up {
		s.open[id] = x
	} else if s.open[id] == x {
		delete(s.open, id)
	}
	s.mu.Unlock()
	s.members.Neighbour(id, up)
}

// Events implements engine.Peers.
func (s *sessions) Events() <-chan engine.PeerEvent { return s.events }

// Run runs the manager and passes its events on, in order. What the engine has
// not taken when ctx ends is dropped with it.
func (s *sessions) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.Manager.Run(ctx) }()
	for ev := range s.Manager.Events() {
		out := engine.PeerEvent{Session: ev.Session, Message: ev.Message, Reason: ev.Reason.String()}
		switch ev.Kind {
		case peer.Up:
			out.Kind, out.Hello = engine.PeerUp, ev.Session.Hello()
			s.neighbour(ev.Session, true)
		case peer.Message:
			if g, ok := ev.Message.(*wire.Gossip); ok {
				s.members.Receive(ev.Session.Hello().Node, g.Payload)
				continue
			}
			out.Kind = engine.PeerMessage
		case peer.Down:
			out.Kind = engine.PeerDown
			s.neighbour(ev.Session, false)
		}
		select {
		case s.events <- out:
		case <-ctx.Done():
		}
	}
	return <-done
}

// peersOf translates the configuration.
func peersOf(c *conf.Sasyncd) []peer.Peer {
	var out []peer.Peer
	for _, p := range c.Peers {
		x := peer.Peer{Name: p.Hosts[0].String()}
		for _, h := range p.Hosts {
			x.Addrs = append(x.Addrs, net.JoinHostPort(h.String(), strconv.Itoa(int(p.Port))))
		}
		out = append(out, x)
	}
	return out
}

// keysOf derives the channel's keys.
func keysOf(c *conf.Sasyncd) (channel.Keys, error) {
	var specs []channel.Spec
	for _, k := range c.Keys {
		s, err := channel.NewSpec(k.Secret, !k.Text)
		if err != nil {
			return channel.Keys{}, fmt.Errorf("%s: %w", k.Pos, err)
		}
		specs = append(specs, s)
	}
	return channel.Derive(specs...)
}

// listeners opens the sockets for the peers: by default one for both families.
// An address that this node does not have yet is bound all the same.
func listeners(ctx context.Context, c *conf.Sasyncd) ([]net.Listener, error) {
	var out []net.Listener
	for _, at := range listenAddrs(c) {
		lc := net.ListenConfig{Control: freebind}
		nl, err := lc.Listen(ctx, "tcp", at)
		if err != nil {
			for _, o := range out {
				_ = o.Close()
			}
			return nil, fmt.Errorf("listen for peers: %w", err)
		}
		out = append(out, nl)
	}
	return out, nil
}

func listenAddrs(c *conf.Sasyncd) []string {
	if len(c.Listen) == 0 {
		return []string{":" + strconv.Itoa(int(conf.DefaultSyncPort))}
	}
	var out []string
	for _, l := range c.Listen {
		port := strconv.Itoa(int(l.Port))
		if l.Addr.IsValid() {
			out = append(out, net.JoinHostPort(l.Addr.String(), port))
			continue
		}
		for _, a := range interfaceAddrs(l.Interface) {
			if l.Family == conf.FamilyIPv4 && !a.Is4() || l.Family == conf.FamilyIPv6 && a.Is4() {
				continue
			}
			out = append(out, net.JoinHostPort(a.String(), port))
		}
	}
	return out
}

func interfaceAddrs(name string) []netip.Addr {
	addrs, err := link.NodeAddrs(context.Background(), name)
	if err != nil {
		return nil
	}
	for i, a := range addrs {
		if a.IsLinkLocalUnicast() && a.Is6() {
			addrs[i] = a.WithZone(name)
		}
	}
	return addrs
}

func freebind(network, _ string, c syscall.RawConn) error {
	var opt error
	err := c.Control(func(fd uintptr) {
		if network == "tcp4" {
			opt = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		} else {
			opt = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
		}
	})
	if err != nil {
		return err
	}
	return opt
}
