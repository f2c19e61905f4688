package filter

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/tests/harness/netns"
)

// wire is an interface of a node with virtual addresses, and the other end of its cable.
type wire struct {
	t     *testing.T
	node  int // interface of the node
	host  int // the other end
	mac   map[int]packet.MAC
	fd    int // sees what the node sends
	conns map[netip.Addr]*net.UDPConn
	probe int
}

var (
	vip4, vip6 = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")
	own4, own6 = netip.MustParseAddr("10.1.0.11"), netip.MustParseAddr("fd00:1::11")
	far4, far6 = netip.MustParseAddr("10.1.0.100"), netip.MustParseAddr("fd00:1::100")
)

const port = 9000

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWire makes the two ends in a namespace of their own. The node has the virtual
// addresses and more.
func newWire(t *testing.T, more ...netip.Addr) *wire {
	t.Helper()
	t.Parallel()
	netns.Enter(t)
	addrs := []string{"10.1.0.11/24", "fd00:1::11/64", "10.1.0.1/32", "fd00:1::1/128"}
	for _, ip := range more {
		addrs = append(addrs, netip.PrefixFrom(ip, ip.BitLen()).String())
	}
	w := &wire{t: t, mac: make(map[int]packet.MAC), conns: make(map[netip.Addr]*net.UDPConn)}
	w.node = netns.Veth(t, "in0", "host0", addrs...)
	for name, index := range map[string]*int{"in0": new(int), "host0": &w.host} {
		l, err := netlink.LinkByName(name)
		ok(t, err)
		*index = l.Attrs().Index
		w.mac[*index] = packet.MAC(l.Attrs().HardwareAddr)
	}
	for _, far := range []netip.Addr{far4, far6} {
		m := w.mac[w.host]
		ok(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: w.node, IP: far.AsSlice(), HardwareAddr: m[:],
			State: netlink.NUD_PERMANENT}))
	}
	var err error
	w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	t.Cleanup(func() { unix.Close(w.fd) })
	all := uint16(unix.ETH_P_ALL)
	ok(t, unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: w.host}))
	ok(t, unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return w
}

// conn is the node's socket on an address.
func (w *wire) conn(ip netip.Addr) *net.UDPConn {
	w.t.Helper()
	if w.conns[ip] == nil {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port)))
		ok(w.t, err)
		w.t.Cleanup(func() { c.Close() })
		w.conns[ip] = c
	}
	return w.conns[ip]
}

// put sends a frame from an end: the node sends it past its routing.
func (w *wire) put(index int, frame []byte) {
	w.t.Helper()
	ok(w.t, w.send(index, frame))
}

func (w *wire) send(index int, frame []byte) error {
	return unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
}

// frame is one of an IP protocol from one end to the other.
func (w *wire) frame(from, to netip.Addr, proto uint8, sum int, payload []byte) []byte {
	w.t.Helper()
	if sum >= 0 {
		binary.BigEndian.PutUint16(payload[sum:], checksum(from, to, proto, payload))
	}
	f := packet.Frame{Src: w.mac[w.host], Dst: w.mac[w.node], SrcIP: from, DstIP: to, TTL: 255, Proto: proto,
		Payload: payload}
	b, err := f.Append(nil)
	ok(w.t, err)
	return b
}

// checksum is that of RFC 1071 with the pseudo-header of UDP and ICMPv6.
func checksum(from, to netip.Addr, proto uint8, b []byte) uint16 {
	all := append(append(append([]byte{}, from.AsSlice()...), to.AsSlice()...), 0, proto)
	all = binary.BigEndian.AppendUint16(all, uint16(len(b)))
	all = append(all, b...)
	sum := uint32(0)
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	if len(all)%2 == 1 {
		sum += uint32(all[len(all)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func family(ip, four, six netip.Addr) netip.Addr {
	if ip.Is4() {
		return four
	}
	return six
}

// arrives reports whether the node hears what comes for an address: before or after what
// comes for its own.
func (w *wire) arrives(to netip.Addr) bool {
	w.t.Helper()
	w.probe++
	mark := family(to, own4, own6)
	w.conn(to)
	w.conn(mark)
	for _, dst := range []netip.Addr{to, mark} {
		text := []byte(strconv.Itoa(w.probe))
		udp := binary.BigEndian.AppendUint16([]byte{0, 9}, port)
		udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(text)))
		w.put(w.host, w.frame(family(to, far4, far6), dst, unix.IPPROTO_UDP, 6, append(append(udp, 0, 0), text...)))
	}
	heard := func(at netip.Addr, limit time.Duration) bool {
		c := w.conn(at)
		_ = c.SetReadDeadline(time.Now().Add(limit))
		for b := make([]byte, 64); ; {
			n, err := c.Read(b)
			if err != nil {
				return false
			}
			if string(b[:n]) == strconv.Itoa(w.probe) {
				return true
			}
		}
	}
	if !heard(mark, 5*time.Second) {
		w.t.Fatalf("nothing arrives at %v", mark)
	}
	return heard(to, 20*time.Millisecond)
}

// leaves reports whether the other end sees what the node sends from an address.
func (w *wire) leaves(from netip.Addr) bool {
	w.t.Helper()
	return w.seen(from, func() {
		_, _ = w.conn(from).WriteToUDPAddrPort([]byte("probe "+strconv.Itoa(w.probe)),
			netip.AddrPortFrom(family(from, far4, far6), port))
	}, func(b []byte) bool {
		var f packet.Frame
		return f.Parse(b) == nil && f.SrcIP == from && f.Proto == unix.IPPROTO_UDP
	})
}

// asks reports whether the other end sees an ARP request of the node from an address.
func (w *wire) asks(from netip.Addr) bool {
	w.t.Helper()
	frame := packet.AppendARPRequest(nil, w.mac[w.node], from, netip.MustParseAddr("10.1.0.99"))
	return w.seen(from, func() {
		// What is dropped on its way out is said to the sender.
		if err := w.send(w.node, frame); err != unix.ENOBUFS {
			ok(w.t, err)
		}
	}, func(b []byte) bool { return string(b) == string(frame) })
}

// seen reports whether the other end sees what send sends, before what leaves the node
// from its own address afterwards.
func (w *wire) seen(from netip.Addr, send func(), is func([]byte) bool) (yes bool) {
	w.t.Helper()
	w.probe++
	send()
	mark := family(from, own4, own6)
	text := "mark " + strconv.Itoa(w.probe)
	_, err := w.conn(mark).WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(family(from, far4, far6), port))
	ok(w.t, err)
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		ok(w.t, err)
		var f packet.Frame
		switch {
		case is(b[:n]):
			yes = true
		case f.Parse(b[:n]) == nil && f.SrcIP == mark && len(f.Payload) > 8 && string(f.Payload[8:]) == text:
			return yes
		}
	}
}

// advertise has the node advertise a virtual router.
func (w *wire) advertise(id uint8, from netip.Addr) {
	w.t.Helper()
	f := packet.Frame{Src: w.mac[w.node], SrcIP: from, DstIP: family(from, packet.Group4(), packet.Group6()), TTL: 255,
		Proto: packet.Protocol, Payload: []byte{0x31, id, 100, 1, 0, 25, 0, 0}}
	f.Dst = packet.GroupMAC(f.DstIP)
	b, err := f.Append(nil)
	ok(w.t, err)
	w.put(w.node, b)
}
