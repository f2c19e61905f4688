package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
)

// Config describes a flow.
type Config struct {
	From, To *lab.Node
	Src, Dst netip.Addr // of the two nodes; the family of the flow
	Port     uint16     // destination; each flow into a node needs its own
	Rate     int        // packets a second, 1 to 10,000
	Size     int        // bytes of UDP payload, at least 64, which is the default
}

const minSize = 64

// Flow is UDP traffic in one direction, packet n being due n/Rate seconds after
// the start. A sender that was held up catches up, so the rate holds.
type Flow struct {
	Name string

	t       lab.T
	cfg     Config
	send    int // sockets
	recv    int
	start   time.Time
	stop    chan struct{}
	senders sync.WaitGroup
	reader  sync.WaitGroup
	once    sync.Once
	ending  atomic.Bool

	mu       sync.Mutex
	sent     []int64 // by sequence number: nanoseconds since start
	received []int64 // by sequence number: the same of the first arrival, 0 when none
	arrivals []int64 // in order of arrival, duplicates included
	dups     []int64
	reorder  []int64
	highest  int
}

// Start starts a flow; it stops when the test ends.
func Start(t lab.T, cfg Config) *Flow {
	t.Helper()
	cfg.Size = max(cfg.Size, minSize)
	family := "IPv4"
	if cfg.Dst.Is6() {
		family = "IPv6"
	}
	f := &Flow{
		Name: fmt.Sprintf("%s>%s %s", cfg.From.Name, cfg.To.Name, family),
		t:    t, cfg: cfg, stop: make(chan struct{}), highest: -1,
	}
	var err error
	if f.recv, err = f.socket(cfg.To, cfg.Dst, cfg.Port); err == nil {
		f.send, err = f.socket(cfg.From, cfg.Src, 0)
	}
	if err != nil {
		t.Fatalf("start flow %s: %v", f.Name, err)
	}
	f.start = time.Now()
	f.reader.Go(f.readAll)
	f.senders.Go(f.sendAll)
	t.Cleanup(f.Stop)
	return f
}

// socket opens a bound socket inside a node.
func (f *Flow) socket(nd *lab.Node, addr netip.Addr, port uint16) (fd int, err error) {
	domain := unix.AF_INET
	if addr.Is6() {
		domain = unix.AF_INET6
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
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(fd, sockaddr(addr, port)),
		)
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
}

// sendAll sends what is due, then sleeps until the next packet is.
func (f *Flow) sendAll() {
	pkt := make([]byte, f.cfg.Size)
	copy(pkt, capture.Marker)
	to := sockaddr(f.cfg.Dst, f.cfg.Port)
	every := time.Second / time.Duration(f.cfg.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for seq := 0; ; {
		select {
		case <-f.stop:
			return
		case <-timer.C:
		}
		for due := int(time.Since(f.start) / every); seq <= due; seq++ {
			binary.BigEndian.PutUint64(pkt[len(capture.Marker):], uint64(seq))
			f.mu.Lock()
			f.sent = append(f.sent, int64(time.Since(f.start)))
			f.received = append(f.received, 0)
			f.mu.Unlock()
			// A packet that cannot be sent (no route, no neighbour, no
			// buffer) is one that the application lost: it counts as sent.
			_ = unix.Sendto(f.send, pkt, 0, to)
		}
		timer.Reset(time.Until(f.start.Add(time.Duration(seq) * every)))
	}
}

// readAll reads on a thread of its own, with plain system calls: in a guest they
// are what costs. Times of arrival are the kernel's.
func (f *Flow) readAll() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf, oob := make([]byte, 2048), make([]byte, 128)
	wall := f.start.Round(0).UnixNano()
	for {
		n, oobn, _, _, err := unix.Recvmsg(f.recv, buf, oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if f.ending.Load() {
				return // nothing for the length of the receive timeout
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			f.t.Errorf("receive flow %s: %v", f.Name, err)
			return
		}
		if n < minSize || string(buf[:len(capture.Marker)]) != capture.Marker {
			continue
		}
		f.arrived(int(binary.BigEndian.Uint64(buf[len(capture.Marker):])), arrival(oob[:oobn])-wall)
	}
}

// arrival is the SCM_TIMESTAMPNS of a message, or now.
func arrival(oob []byte) int64 {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:]))
			}
		}
	}
	return time.Now().UnixNano()
}

func (f *Flow) arrived(seq int, at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq < 0 || seq >= len(f.received) {
		f.t.Errorf("flow %s: packet %d arrived, which was never sent", f.Name, seq)
		return
	}
	at = max(at, 1) // 0 stands for none
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

// Stop stops sending, and returns when all has arrived that will.
func (f *Flow) Stop() {
	f.once.Do(func() {
		close(f.stop)
		f.senders.Wait()
		f.ending.Store(true)
		f.reader.Wait()
		unix.Close(f.send)
		unix.Close(f.recv)
	})
}

// Both starts flows in both directions between two nodes, on ports port and port+1.
func Both(t lab.T, cfg Config) []*Flow {
	t.Helper()
	back := cfg
	back.From, back.To, back.Src, back.Dst, back.Port = cfg.To, cfg.From, cfg.Dst, cfg.Src, cfg.Port+1
	return []*Flow{Start(t, cfg), Start(t, back)}
}
