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
	"io"
	"net"
	"net/netip"
	"os"
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

// segment is what one write sent. The end of the stream has no data.
type segment struct {
	data []byte
	at   time.Time // arrival
}

// half is one direction of a connection.
type half struct {
	net      *Network
	from, to netip.Addr

	mu          sync.Mutex
	change      chan struct{} // closed and replaced on every change
	queue       []segment
	held        int  // bytes in queue
	ended, gone bool // closed by the writer, by the reader
	void        bool // one of the two lost its power
	goneAt      time.Time
	readBy      time.Time // deadlines
	writeBy     time.Time
}

func newHalf(n *Network, from, to netip.Addr) *half {
	return &half{net: n, from: from, to: to, change: make(chan struct{})}
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakeLocked()
}

func (h *half) wakeLocked() {
	close(h.change)
	h.change = make(chan struct{})
}

func (h *half) watch() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.change
}

// wait waits until something changes or the earliest of the times passes.
func wait(change <-chan struct{}, times ...time.Time) {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if first.IsZero() {
		<-change
		return
	}
	t := time.NewTimer(time.Until(first))
	defer t.Stop()
	select {
	case <-change:
	case <-t.C:
	}
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) Read(b []byte) (int, error) {
	for {
		change := h.watch() // before the look, so that no change is missed
		cut, _ := h.net.link(linkOf(h.from, h.to))
		h.mu.Lock()
		switch {
		case h.gone:
			h.mu.Unlock()
			return 0, net.ErrClosed
		case passed(h.readBy):
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		var arrival time.Time
		if len(h.queue) > 0 && !cut && !h.void {
			s := &h.queue[0]
			if arrival = s.at; passed(arrival) {
				n := h.takeLocked(b)
				h.mu.Unlock()
				if n == 0 {
					return 0, io.EOF
				}
				return n, nil
			}
		}
		deadline := h.readBy
		h.mu.Unlock()
		wait(change, arrival, deadline)
	}
}

// takeLocked copies what arrived into b and returns 0 at the end.
func (h *half) takeLocked(b []byte) (n int) {
	for len(h.queue) > 0 && passed(h.queue[0].at) && len(h.queue[0].data) > 0 && n < len(b) {
		s := &h.queue[0]
		k := copy(b[n:], s.data)
		n += k
		h.held -= k
		if s.data = s.data[k:]; len(s.data) == 0 {
			h.queue = h.queue[1:]
		}
	}
	h.wakeLocked()
	return n
}

func (h *half) Write(b []byte) (int, error) {
	sent := 0
	for {
		change := h.watch()
		cut, _ := h.net.link(linkOf(h.from, h.to))
		h.mu.Lock()
		switch {
		case h.ended:
			h.mu.Unlock()
			return sent, net.ErrClosed
		case h.gone && !cut && !h.void && passed(h.goneAt):
			h.mu.Unlock()
			return sent, syscall.EPIPE
		case passed(h.writeBy):
			h.mu.Unlock()
			return sent, os.ErrDeadlineExceeded
		}
		if n := min(buffer-h.held, len(b)-sent); n > 0 {
			h.queue = append(h.queue, segment{append([]byte(nil), b[sent:sent+n]...), time.Now().Add(h.net.latency)})
			h.held += n
			sent += n
			h.wakeLocked()
		}
		if sent == len(b) {
			h.mu.Unlock()
			return sent, nil
		}
		deadline, gone := h.writeBy, h.goneAt
		h.mu.Unlock()
		if passed(gone) {
			gone = time.Time{} // only the link holds it back
		}
		wait(change, deadline, gone)
	}
}

// end is the writer's close, leave the reader's.
func (h *half) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		h.queue = append(h.queue, segment{at: time.Now().Add(h.net.latency)})
		h.wakeLocked()
	}
}

func (h *half) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone {
		h.gone, h.goneAt = true, time.Now().Add(h.net.latency)
		h.wakeLocked()
	}
}

func (h *half) done() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended && h.gone || h.void
}

type conn struct {
	read, write   *half
	local, remote net.Addr
}

func (c *conn) Read(b []byte) (int, error)  { return c.read.Read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.write.Write(b) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

func (c *conn) Close() error {
	c.write.end()
	c.read.leave()
	n := c.read.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.read.done() && c.write.done() {
		delete(n.streams, c.read)
		delete(n.streams, c.write)
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	c.read.readBy = t
	c.read.wakeLocked()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	c.write.writeBy = t
	c.write.wakeLocked()
	return nil
}
