package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// Config describes a flow.
type Config struct {
	From, To *lab.Node
	// FromAlso and ToAlso are further nodes that have the address Src or Dst at
	// other times: all send every packet, as well as they can, and any may
	// receive it. Who has not the address is bound to it all the same.
	FromAlso, ToAlso []*lab.Node
	Src, Dst         netip.Addr // of the two nodes; the family of the flow
	Port             uint16     // destination; each flow into a node needs its own
	Rate             int        // packets a second, 1 to 10,000
	Size             int        // bytes of UDP payload, 64 (the default) to 1400
}

const (
	minSize = 64
	maxSize = 1400
	seqAt   = len(capture.Marker) // where a packet has its number
)

// Both returns cfg, and the same in the opposite direction on the next port.
func Both(cfg Config) []Config {
	back := cfg
	back.From, back.To, back.Src, back.Dst, back.Port = cfg.To, cfg.From, cfg.Dst, cfg.Src, cfg.Port+1
	back.FromAlso, back.ToAlso = cfg.ToAlso, cfg.FromAlso
	return []Config{cfg, back}
}

// Flow is UDP traffic in one direction. Packet n is due n/Rate seconds after
// the start; a sender that was held up catches up, so the rate holds.
type Flow struct {
	Name string

	cfg   Config
	start time.Time
	tx    []int // sockets
	rx    []int
	out   *mmsg
	in    *mmsg

	mu       sync.Mutex
	sent     []int64 // by number: nanoseconds since start
	received []int64 // by number: the same of the first arrival, 0 when none
	arrivals []int64 // in order of arrival, duplicates included
	dups     []int64
	reorder  []int64
	highest  int
	open     bool      // a probe arrived
	end      time.Time // when sending stopped
	err      error
}

func newFlow(cfg Config) (*Flow, error) {
	cfg.Size = min(max(cfg.Size, minSize), maxSize)
	cfg.Rate = max(1, cfg.Rate/harness.Slow())
	family := "IPv4"
	if cfg.Dst.Is6() {
		family = "IPv6"
	}
	f := &Flow{
		Name: fmt.Sprintf("%s>%s %s", cfg.From.Name, cfg.To.Name, family),
		cfg:  cfg, highest: -1,
		in: newMmsg(maxSize, netip.AddrPort{}), out: newMmsg(cfg.Size, netip.AddrPortFrom(cfg.Dst, cfg.Port)),
	}
	for _, b := range f.out.bufs {
		copy(b, capture.Marker)
	}
	for _, nd := range append([]*lab.Node{cfg.To}, cfg.ToAlso...) {
		if err := f.openAt(&f.rx, nd, cfg.Dst, cfg.Port); err != nil {
			return nil, err
		}
	}
	for _, nd := range append([]*lab.Node{cfg.From}, cfg.FromAlso...) {
		if err := f.openAt(&f.tx, nd, cfg.Src, 0); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// openAt adds a socket in a node to a list.
func (f *Flow) openAt(list *[]int, nd *lab.Node, addr netip.Addr, port uint16) error {
	fd, err := openSocket(nd, addr, port)
	if err != nil {
		f.close()
		return fmt.Errorf("open flow %s: %w", f.Name, err)
	}
	*list = append(*list, fd)
	return nil
}

// openSocket opens a bound socket inside a node.
func openSocket(nd *lab.Node, addr netip.Addr, port uint16) (fd int, err error) {
	domain, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(port)})
	if addr.Is6() {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: addr.As16(), Port: int(port)}
	} else {
		sa.(*unix.SockaddrInet4).Addr = addr.As4()
	}
	err = nd.Do(func() error {
		fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err := errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			freebind(fd, domain),
			unix.Bind(fd, sa),
		)
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}

// freebind allows to bind to an address that is not there yet.
func freebind(fd, domain int) error {
	if domain == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

// sendDue sends the packets that are due at now.
func (f *Flow) sendDue(now time.Time) {
	at := int64(now.Sub(f.start))
	due := int(at*int64(f.cfg.Rate)/int64(time.Second)) + 1
	f.mu.Lock()
	next := len(f.sent)
	for range due - next {
		f.sent = append(f.sent, at)
		f.received = append(f.received, 0)
	}
	f.mu.Unlock()
	for next < due {
		n := min(due-next, batch)
		for i := range n {
			binary.BigEndian.PutUint64(f.out.bufs[i][seqAt:], uint64(next+i))
		}
		for _, fd := range f.tx {
			f.out.send(fd, n)
		}
		next += n
	}
}

// receiveAll takes all packets that have arrived, and reports whether there were any.
func (f *Flow) receiveAll() bool {
	any := false
	for _, fd := range f.rx {
		for f.receive(fd) > 0 {
			any = true
		}
	}
	return any
}

// receive takes a batch of packets from a socket and returns how many.
func (f *Flow) receive(fd int) int {
	n, err := f.in.receive(fd)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("receive flow %s: %w", f.Name, err)
	}
	for i := range n {
		b, at := f.in.packet(i)
		if len(b) >= minSize && string(b[:seqAt]) == capture.Marker {
			f.arrived(int(binary.BigEndian.Uint64(b[seqAt:])), at)
		}
	}
	return n
}

// probe is the number of packets that do not count.
const probe = -1

func (f *Flow) sendProbe() {
	n := probe
	binary.BigEndian.PutUint64(f.out.bufs[0][seqAt:], uint64(n))
	for _, fd := range f.tx {
		f.out.send(fd, 1)
	}
}

func (f *Flow) arrived(seq int, when time.Time) {
	if seq == probe {
		f.open = true
		return
	}
	if seq < 0 || seq >= len(f.received) {
		f.err = fmt.Errorf("flow %s: packet %d arrived, which was never sent", f.Name, seq)
		return
	}
	at := max(int64(when.Sub(f.start)), 1) // 0 stands for none
	f.arrivals = append(f.arrivals, at)
	switch {
	case f.received[seq] != 0:
		f.dups = append(f.dups, at)
		return
	case seq < f.highest:
		f.reorder = append(f.reorder, at)
	}
	f.received[seq] = at
	f.highest = max(f.highest, seq)
}

// ended notes that no more will be sent.
func (f *Flow) ended() {
	f.mu.Lock()
	f.end = time.Now()
	f.mu.Unlock()
}

func (f *Flow) close() {
	for _, fd := range append(f.tx, f.rx...) {
		unix.Close(fd)
	}
}
