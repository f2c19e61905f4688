// Package memnet is a network in memory for tests: streams with addresses,
// socket buffers, latency and links that can be cut. It uses nothing but
// channels, timers and short locks, so that a testing/synctest bubble advances
// over it.
//
// A link is a pair of addresses. While it is cut nothing arrives, in either
// direction, neither data nor the end of a stream nor new connections; after
// it healed everything arrives, as TCP would send it again.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// buffer is how much a stream holds in each direction before writes wait.
const buffer = 256 << 10

// Network connects listeners and dialers. Its methods may be called by any
// goroutine.
type Network struct {
	latency time.Duration

	mu        sync.Mutex
	listeners map[netip.AddrPort]*Listener
	cut       map[link]bool
	streams   map[*half]bool
	port      uint16
	changed   chan struct{} // closed and replaced when a link changes
}

type link struct{ a, b netip.Addr }

func linkOf(a, b netip.Addr) link {
	if b.Less(a) {
		a, b = b, a
	}
	return link{a, b}
}

// New returns a network in which everything takes latency in each direction.
func New(latency time.Duration) *Network {
	return &Network{
		latency: latency, listeners: map[netip.AddrPort]*Listener{}, cut: map[link]bool{},
		streams: map[*half]bool{}, port: 32768, changed: make(chan struct{}),
	}
}

// Cut makes the link between a and b a black hole.
func (n *Network) Cut(a, b netip.Addr) { n.set(a, b, true) }

// Heal mends the link between a and b.
func (n *Network) Heal(a, b netip.Addr) { n.set(a, b, false) }

func (n *Network) set(a, b netip.Addr, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[linkOf(a, b)] = cut
	close(n.changed)
	n.changed = make(chan struct{})
	for h := range n.streams {
		h.wake()
	}
}

// Crash is a loss of power at an address: its listeners and its ends of
// connections close, and the other ends hear nothing of it, ever.
func (n *Network) Crash(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for at, l := range n.listeners {
		if at.Addr() == a {
			l.closeLocked()
		}
	}
	for h := range n.streams {
		if h.from == a || h.to == a {
			h.mu.Lock()
			h.void, h.queue = true, nil
			h.ended = h.ended || h.from == a
			h.gone = h.gone || h.to == a
			h.wakeLocked()
			h.mu.Unlock()
		}
	}
}

// link reports whether a and b are apart and when to look again.
func (n *Network) link(l link) (cut bool, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[l], n.changed
}

// Connections returns how many connections are open at one end at least.
func (n *Network) Connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.streams) / 2
}

// Listener accepts connections to an address.
type Listener struct {
	net    *Network
	at     netip.AddrPort
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Listen starts to listen at an address, once at a time.
func (n *Network) Listen(at netip.AddrPort) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[at] != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, syscall.EADDRINUSE)
	}
	l := &Listener{net: n, at: at, queue: make(chan net.Conn, 128), closed: make(chan struct{})}
	n.listeners[at] = l
	return l, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Connections stay.
func (l *Listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.closeLocked()
	return nil
}

func (l *Listener) closeLocked() {
	l.once.Do(func() {
		delete(l.net.listeners, l.at)
		close(l.closed)
	})
}

// Addr returns where the listener listens.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// Dialer returns a function that connects from an address.
func (n *Network) Dialer(from netip.Addr) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return n.dial(ctx, from, to)
	}
}

func (n *Network) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	lk := linkOf(from, to.Addr())
	for {
		if err := sleep(ctx, 2*n.latency); err != nil {
			return nil, fmt.Errorf("dial %s: %w", to, err)
		}
		cut, changed := n.link(lk)
		if !cut {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", to, ctx.Err())
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	n.port++
	here := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, n.port))
	there := net.TCPAddrFromAddrPort(to)
	out, in := newHalf(n, from, to.Addr()), newHalf(n, to.Addr(), from)
	near := &conn{read: in, write: out, local: here, remote: there}
	far := &conn{read: out, write: in, local: there, remote: here}
	select {
	case l.queue <- far:
	default:
		return nil, fmt.Errorf("dial %s: %w", to, syscall.ECONNREFUSED)
	}
	n.streams[out], n.streams[in] = true, true
	return near, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
