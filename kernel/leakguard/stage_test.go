package leakguard_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/leakguard"
	"sasyncd/sync/guard"
	"sasyncd/tests/harness/lab"
)

// What the filter does to packets is tried on this kernel, in network namespaces. No packet
// has an SA, so what the filter requires IPsec for is what it must drop. It needs root, but
// no ESP.

// patience is for what takes milliseconds.
const patience = 20 * time.Second

// stage is a gateway between two hosts.
//
//	h1 ────────[lan]──────── gw ────────[wan]──────── h2
//	10.1.0.10        10.1.0.1  10.3.0.1      10.3.0.2, and 10.2.0.0/16 behind it
//	fd01::10           fd01::1  fd03::1       fd03::2, and fd02::/16
type stage struct {
	t          *testing.T
	h1, gw, h2 *lab.Node
	f          *leakguard.Filter
	wan        *lab.Port
	seen       *sniffer // at h2
}

var (
	host    = addr("10.1.0.10")
	host6   = addr("fd01::10")
	inner   = addr("10.1.0.1") // the gateway's, inside
	inner6  = addr("fd01::1")
	outer   = addr("10.3.0.1") // and outside
	outer6  = addr("fd03::1")
	remote  = addr("10.2.0.10")
	remote6 = addr("fd02::10")
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newStage(t *testing.T) *stage {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("run the tests as root: network namespaces are needed")
	}
	n := lab.New(t)
	s := &stage{t: t, h1: n.Node("h1"), gw: n.Node("gw"), h2: n.Node("h2")}
	lan, wan := n.Switch("lan"), n.Switch("wan")
	s.h1.Plug(lan, "eth0", "10.1.0.10/24", "fd01::10/64")
	s.gw.Plug(lan, "lan0", "10.1.0.1/24", "fd01::1/64")
	s.wan = s.gw.Plug(wan, "wan0", "10.3.0.1/24", "fd03::1/64")
	s.h2.Plug(wan, "eth0", "10.3.0.2/24", "fd03::2/64")
	s.gw.Forward()
	s.h1.IP("route add default via 10.1.0.1", "route add default via fd01::1 dev eth0")
	s.gw.IP("route add 10.2.0.0/16 via 10.3.0.2", "route add fd02::/16 via fd03::2 dev wan0")
	s.h2.IP("route add 10.1.0.0/24 via 10.3.0.1", "route add fd01::/64 via fd03::1 dev eth0",
		"addr add 10.2.0.10/32 dev lo", "addr add fd02::10/128 dev lo nodad")
	for _, to := range []netip.Addr{remote, remote6} { // neighbours are known from now on
		if err := s.h1.Ping(to, patience); err != nil {
			t.Fatal(err)
		}
	}
	// h2 answers nothing from now on, because the gateway would count what it drops of that.
	if err := load(s.h2, t.TempDir(), "table inet mute { chain c { type filter hook output priority 0; "+
		"icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; drop; }; }"); err != nil {
		t.Fatal(err)
	}
	s.f = s.filter()
	s.seen = sniff(t, s.h2, "eth0")
	return s
}

// filter opens one more Filter on the gateway.
func (s *stage) filter() *leakguard.Filter {
	s.t.Helper()
	var f *leakguard.Filter
	if err := s.gw.Do(func() (err error) { f, err = leakguard.New(); return err }); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return f
}

func (s *stage) drops() int {
	s.t.Helper()
	n, err := s.f.Drops(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return int(n)
}

// packet is what is sent, by a raw socket: the payload begins with the transport header.
type packet struct {
	src, dst netip.Addr
	proto    int
	payload  []byte
	mark     int
}

// send sends packets from a node, through one socket.
func send(nd *lab.Node, p packet, times int) error {
	family, level, bind, to := unix.AF_INET, unix.SOL_IP, sockaddr(p.src), sockaddr(p.dst)
	if p.dst.Is6() {
		family, level = unix.AF_INET6, unix.SOL_IPV6
	}
	return nd.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, p.proto)
		if err != nil {
			return fmt.Errorf("open raw socket: %w", err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, p.mark); err != nil {
			return fmt.Errorf("set mark: %w", err)
		}
		if p.dst.IsMulticast() {
			hops := unix.IP_MULTICAST_TTL
			if p.dst.Is6() {
				hops = unix.IPV6_MULTICAST_HOPS
			}
			if err := unix.SetsockoptInt(fd, level, hops, 255); err != nil {
				return fmt.Errorf("set hops: %w", err)
			}
		}
		if err := unix.Bind(fd, bind); err != nil {
			return fmt.Errorf("bind to %s: %w", p.src, err)
		}
		var errs []error
		for range times {
			errs = append(errs, unix.Sendto(fd, p.payload, 0, to))
		}
		return errors.Join(errs...)
	})
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// segment is a transport header that begins with ports, with so many bytes behind them.
func segment(sport, dport uint16, size int) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sport), dport)
	b = append(b, make([]byte, size)...)
	if size >= 4 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b))) // UDP's length
	}
	return b
}

// message is one of ICMP, whose checksum nobody on the way looks at.
func message(kind, code byte) []byte { return []byte{kind, code, 0, 0, 1, 2, 3, 4} }

// sniffer counts what arrives at an interface, by destination and protocol.
type sniffer struct {
	mu   sync.Mutex
	seen map[arrival]int
	// from is the source of the last one.
	from map[arrival]netip.Addr
}

type arrival struct {
	dst   netip.Addr
	proto int
}

func sniff(t *testing.T, nd *lab.Node, device string) *sniffer {
	t.Helper()
	s := &sniffer{seen: make(map[arrival]int), from: make(map[arrival]netip.Addr)}
	link, err := nd.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network order
	if err := nd.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	}); err != nil {
		t.Fatalf("sniff at %s: %v", device, err)
	}
	file := os.NewFile(uintptr(fd), "packets")
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 1<<16)
		_ = raw.Read(func(fd uintptr) bool {
			for {
				n, from, err := unix.Recvfrom(int(fd), buf, 0)
				if err == unix.EAGAIN {
					return false
				}
				if err != nil && err != unix.EINTR {
					return true
				}
				if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
					s.add(buf[:max(n, 0)])
				}
			}
		})
	})
	t.Cleanup(func() {
		file.Close()
		done.Wait()
	})
	return s
}

func (s *sniffer) add(b []byte) {
	var a arrival
	var from netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		a.dst, _ = netip.AddrFromSlice(b[16:20])
		from, _ = netip.AddrFromSlice(b[12:16])
		a.proto = int(b[9])
	case len(b) >= 48 && b[0]>>4 == 6:
		a.dst, _ = netip.AddrFromSlice(b[24:40])
		from, _ = netip.AddrFromSlice(b[8:24])
		if a.proto = int(b[6]); a.proto == unix.IPPROTO_FRAGMENT {
			a.proto = int(b[40])
		}
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[a]++
	s.from[a] = from
}

func (s *sniffer) count(p packet) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[arrival{p.dst, p.proto}]
}

func (s *sniffer) source(p packet) netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from[arrival{p.dst, p.proto}]
}

// expect sends a packet several times and wants, of the pieces it leaves in, so many to
// arrive at h2 each time, and so many to be dropped and counted. Every piece does one of
// the two, so when all have it is known what each did.
func (s *stage) expect(name string, from *lab.Node, p packet, arrive, dropped int) {
	s.t.Helper()
	const times = 3
	drops, seen := s.drops(), s.seen.count(p)
	// A sender on the gateway is told of a drop.
	if err := send(from, p, times); err != nil && (dropped == 0 || from != s.gw || !errors.Is(err, unix.EPERM)) {
		s.t.Fatalf("%s: %v", name, err)
	}
	var arrived, lost int
	lab.Eventually(s.t, patience, name+": packets to arrive or be dropped", func() bool {
		arrived, lost = s.seen.count(p)-seen, s.drops()-drops
		return arrived+lost >= times*(arrive+dropped)
	})
	if arrived != times*arrive || lost != times*dropped {
		s.t.Errorf("%s: of %d packets %d pieces arrived and %d were dropped, want %d and %d", name, times, arrived,
			lost, times*arrive, times*dropped)
	}
}

func (s *stage) passes(name string, from *lab.Node, p packet) {
	s.t.Helper()
	s.expect(name, from, p, 1, 0)
}

func (s *stage) dropsIt(name string, from *lab.Node, p packet) {
	s.t.Helper()
	s.expect(name, from, p, 0, 1)
}

// TestSupported: to ask whether the kernel can have the table leaves the one that is there,
// and none.
func TestSupported(t *testing.T) {
	s := newStage(t)
	if err := s.f.Supported(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := s.gw.Run("nft list tables"); out != "" {
		t.Errorf("tables: %s", out)
	}
	if err := s.f.Set(t.Context(), guard.Program{}, leakguard.Own{}); err != nil {
		t.Fatal(err)
	}
	if err := s.f.Supported(t.Context()); err != nil {
		t.Fatal(err)
	}
	if there, err := s.f.There(t.Context()); err != nil || !there {
		t.Errorf("the table is as it was: %v, %v", there, err)
	}
}
