package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

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
