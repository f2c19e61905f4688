package check

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// view is what is seen of a lab all the time, so that whoever waits for something
// asks nobody and does nothing but sleep: only then the time in which the machine
// stood still can be told from the time that a failover took.
type view struct {
	mu       sync.Mutex
	masters  []*Member
	answered map[netip.Addr]int // echo replies of a virtual IP
}

// now returns who says that it is MASTER.
func (v *view) now() []*Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.masters
}

// answers returns how many times an address has answered.
func (v *view) answers(a netip.Addr) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.answered[a]
}

const viewEvery = 100 * time.Millisecond

// watch looks until the test ends.
func (s *Site) watch() *view {
	s.t.Helper()
	v := &view{answered: map[netip.Addr]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	s.t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	all.Go(func() {
		for ctx.Err() == nil {
			list := s.masters()
			v.mu.Lock()
			v.masters = list
			v.mu.Unlock()
			time.Sleep(harness.Scaled(viewEvery))
		}
	})
	for i, x := range virtuals {
		fd, err := echoSocket(x.client(s), x.addr)
		if err != nil {
			s.t.Fatalf("watch %v: %v", x.addr, err)
		}
		all.Go(func() {
			defer unix.Close(fd)
			v.ping(ctx, fd, x.addr, uint16(i+1))
		})
	}
	return v
}

// echoSocket opens a socket for echo requests, whose reads end after a while.
func echoSocket(nd *lab.Node, to netip.Addr) (fd int, err error) {
	err = nd.Do(func() (err error) {
		family, proto := unix.AF_INET, unix.IPPROTO_ICMP
		if to.Is6() {
			family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		}
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	wait := unix.NsecToTimeval(int64(harness.Scaled(viewEvery)))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ping asks again and again and counts the answers.
func (v *view) ping(ctx context.Context, fd int, addr netip.Addr, id uint16) {
	request, reply := byte(8), byte(0)
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: addr4(addr)}
	if addr.Is6() {
		request, reply, to = 128, 129, &unix.SockaddrInet6{Addr: addr.As16()}
	}
	echo := []byte{request, 0, 0, 0, byte(id >> 8), byte(id), 0, 0}
	var buf [1500]byte
	for n := uint16(1); ctx.Err() == nil; n++ {
		binary.BigEndian.PutUint16(echo[6:], n)
		if !addr.Is6() { // of ICMPv6 the kernel computes the checksum
			binary.BigEndian.PutUint16(echo[2:], 0)
			binary.BigEndian.PutUint16(echo[2:], checksum(echo))
		}
		// An error is that there is no neighbour yet: nobody answers.
		_ = unix.Sendto(fd, echo, 0, to)
		for until := time.Now().Add(harness.Scaled(viewEvery)); time.Now().Before(until); {
			got, _, err := unix.Recvfrom(fd, buf[:], 0)
			b := buf[:max(got, 0)]
			if !addr.Is6() && len(b) > 20 { // comes with its IP header
				b = b[int(b[0]&15)*4:]
			}
			if err == nil && len(b) >= 8 && b[0] == reply && binary.BigEndian.Uint16(b[4:]) == id {
				v.mu.Lock()
				v.answered[addr]++
				v.mu.Unlock()
			}
		}
	}
}

func addr4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}
