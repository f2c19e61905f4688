package managers

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
)

// vips are those of the group.
var vips = []netip.Addr{lab.VIPOut, lab.VIPOut6, lab.VIPIn, lab.VIPIn6}

// absence notes how long virtual addresses are away from a node, as the kernel tells it.
type absence struct {
	mu      sync.Mutex
	since   map[netip.Addr]time.Time // of those that are away
	times   int                      // how often one went
	longest time.Duration
}

// watchVIPs starts to watch a node that has all addresses. It ends with the test.
func watchVIPs(t *testing.T, nd *lab.Node) *absence {
	t.Helper()
	a := &absence{since: map[netip.Addr]time.Time{}}
	updates, done := make(chan netlink.AddrUpdate, 1000), make(chan struct{})
	if err := nd.Do(func() error { return netlink.AddrSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if ip, ok := netip.AddrFromSlice(u.LinkAddress.IP); ok {
				a.note(ip.Unmap(), u.NewAddr)
			}
		}
	}()
	for _, ip := range vips {
		if !nd.Has(ip) {
			t.Fatalf("%s lacks %v", nd.Name, ip)
		}
	}
	return a
}

func (a *absence) note(ip netip.Addr, there bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range vips {
		if v != ip {
			continue
		}
		since, away := a.since[ip]
		switch {
		case there && away:
			a.longest = max(a.longest, time.Since(since))
			delete(a.since, ip)
		case !there && !away:
			a.since[ip] = time.Now()
			a.times++
		}
	}
}

// take returns how often an address went since the last call, and the longest absence,
// those that last included.
func (a *absence) take() (times int, longest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	times, longest = a.times, a.longest
	for _, since := range a.since {
		longest = max(longest, time.Since(since))
	}
	a.times, a.longest = 0, 0
	return times, longest
}

// pinger sends an ICMP echo request from a node every 10 ms, and notes answers.
type pinger struct {
	mu        sync.Mutex
	sent, got int
	last      time.Time // of an answer
	gap       time.Duration
}

// every is the time between two requests.
const every = 10 * time.Millisecond

// ping starts a pinger, which ends with the test.
func ping(t *testing.T, nd *lab.Node, dst netip.Addr) *pinger {
	t.Helper()
	var fd int
	if err := nd.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wait := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	p := &pinger{last: time.Now()}
	stop := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { p.send(fd, dst, stop) })
	both.Go(func() { p.receive(fd, stop) })
	t.Cleanup(func() { close(stop); both.Wait(); unix.Close(fd) })
	return p
}

const echoID = 0x5aa6

func (p *pinger) send(fd int, dst netip.Addr, stop chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	b := []byte{8, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], echoID)
	for n := uint16(0); ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint16(b[2:], 0)
		binary.BigEndian.PutUint16(b[6:], n)
		sum := uint32(8<<8) + echoID + uint32(n)
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
		_ = unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: dst.As4()}) // what is not sent is lost
		p.mu.Lock()
		p.sent++
		p.mu.Unlock()
	}
}

func (p *pinger) receive(fd int, stop chan struct{}) {
	buf := make([]byte, 1500)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n < 28 {
			continue
		}
		if b := buf[int(buf[0]&15)*4 : n]; len(b) < 8 || b[0] != 0 || binary.BigEndian.Uint16(b[4:]) != echoID {
			continue
		}
		now := time.Now()
		p.mu.Lock()
		p.got++
		p.gap = max(p.gap, now.Sub(p.last))
		p.last = now
		p.mu.Unlock()
	}
}

// take returns what was sent and answered since the last call, and the longest time
// without an answer.
func (p *pinger) take() (sent, got int, gap time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent, got, gap = p.sent, p.got, max(p.gap, time.Since(p.last))
	p.sent, p.got, p.gap = 0, 0, 0
	return sent, got, gap
}
