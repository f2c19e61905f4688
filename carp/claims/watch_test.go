package claims

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/netns"
)

const patience = 20 * time.Second

// far is the other end of the watched interface.
type far struct {
	t  *testing.T
	fd int
}

func newFar(t *testing.T, device string) *far {
	t.Helper()
	dev, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.ETH_P_ALL<<8)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: dev.Index})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &far{t, fd}
}

func (f *far) send(frames ...[]byte) {
	f.t.Helper()
	for _, b := range frames {
		if _, err := unix.Write(f.fd, b); err != nil {
			f.t.Fatal(err)
		}
	}
}

// asked waits for a question about an address.
func (f *far) asked(ask func(), l func() *link, ip netip.Addr) {
	f.t.Helper()
	buf := make([]byte, 2000)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ask()
		for {
			n, err := unix.Read(f.fd, buf)
			if err != nil {
				break
			}
			if want := l().question(ip); want != nil && slices.Equal(buf[:n], want) {
				return
			}
		}
	}
	f.t.Fatalf("nobody asks for %v", ip)
}

func tagged(b []byte, id byte) []byte {
	return slices.Concat(b[:12], []byte{0x81, 0, 0, id}, b[12:])
}

// TestWatcher: the addresses are asked for as a host would, and what is said about them is
// noted, whoever says it. The rest of a network's chatter does not get to the process.
func TestWatcher(t *testing.T) {
	netns.Enter(t)
	netns.Veth(t, "in0", "host0", "10.1.0.11/24")
	ip4, ip6, other6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fd00:1::2")
	three := packet.MAC{2, 0, 0, 0, 0, 3}
	host := newFar(t, "host0")
	now := time.Minute
	var b Book
	b.Aim([]netip.Addr{ip4, ip6}, now)
	targets := []Target{{Device: "in0", IPs: []netip.Addr{ip4, ip6}}, {Device: "absent0", IPs: []netip.Addr{ip4}}}
	w := &Watcher{Book: &b, Targets: func() []Target { return targets }, Now: func() time.Duration { return now },
		links: make(map[string]*link)}
	in := func() *link { return w.links["in0"] }
	host.asked(w.ask, in, ip4)
	host.asked(w.ask, in, ip6)
	for _, ip := range []netip.Addr{ip4, ip6} {
		if got := b.of[ip].asked; got != now {
			t.Errorf("%v was asked for at %v, want %v", ip, got, now)
		}
	}

	arp := func(mac packet.MAC, ip netip.Addr) []byte { return packet.AppendGratuitousARP(nil, mac, ip) }
	na := func(mac packet.MAC, ip netip.Addr) []byte { return packet.AppendUnsolicitedNA(nil, mac, ip, false) }
	echo := na(one, ip6)
	echo[54] = 129
	host.send(arp(one, other), na(one, other6), tagged(arp(one, ip4), 5), echo,
		packet.AppendSolicitation(nil, one, netip.MustParseAddr("fe80::9"), ip6), arp(two, ip4), na(three, ip6))
	for end := time.Now().Add(patience); ; {
		w.budget = mostRead
		w.listen(50 * time.Millisecond)
		four, six := b.Claims(ip4, 0, now), b.Claims(ip6, 0, now)
		if slices.Equal(four, []packet.MAC{two}) && slices.Equal(six, []packet.MAC{three}) {
			break
		}
		if len(four) > 1 || len(six) > 1 || time.Now().After(end) {
			t.Fatalf("claims %v and %v, want %v and %v", four, six, two, three)
		}
	}
	// What is read is what the filter lets in.
	host.send(arp(one, other), na(one, other6), tagged(arp(one, ip4), 5), echo, na(three, ip6), arp(two, ip4))
	got := make(map[packet.MAC]int)
	buf := make([]byte, 256)
	for end := time.Now().Add(patience); got[two] == 0 || got[three] == 0; {
		n, err := unix.Read(in().fd, buf)
		switch {
		case err == nil:
			_, mac, ok := packet.ParseClaim(buf[:n])
			if !ok || mac == one {
				t.Fatalf("the filter lets %x in", buf[:n])
			}
			got[mac]++
		case time.Now().After(end):
			t.Fatalf("read %v", got)
		}
	}

	// A budget that is used up ends a turn.
	w.budget = 0
	if w.listen(patience) {
		t.Error("reads without a budget")
	}
	// An interface that is not asked for any more is let go.
	fd := in().fd
	targets = nil
	w.ask()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF || len(w.links) != 0 {
		t.Errorf("the socket is open: %v, links %v", err, w.links)
	}
}

// TestManyAddressesPassTheFilter: with more than it has room for all claims get through.
func TestManyAddressesPassTheFilter(t *testing.T) {
	var ips []netip.Addr
	for i := range mostFiltered {
		ips = append(ips, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	full, over := len(filter(ips)), len(filter(append(ips, addr)))
	if empty := len(filter(nil)); full != empty+2*mostFiltered || over != empty+2 {
		t.Errorf("%d instructions for none, %d for %d, %d for one more", empty, full, mostFiltered, over)
	}
}
