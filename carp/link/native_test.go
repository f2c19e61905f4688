package link

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
	"sasyncd/tests/harness/netns"
)

var (
	own4, own6   = netip.MustParseAddr("10.1.0.11"), netip.MustParseAddr("fd00:1::11")
	peer4, peer6 = netip.MustParseAddr("10.1.0.12"), netip.MustParseAddr("fd00:1::12")
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRead: an interface is what the kernel says, with its own addresses apart from the
// virtual ones, and from those that the system has configured too.
func TestRead(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	index := netns.Veth(t, "in0", "host0", "10.1.0.11/24", "fd00:1::11/64", "10.1.0.1/24")
	l, err := netlink.LinkByName("in0")
	ok(t, err)
	leased := &netlink.Addr{IPNet: netlink.NewIPNet([]byte{10, 1, 0, 2}), ValidLft: 60, PreferedLft: 60}
	ok(t, netlink.AddrAdd(l, leased))
	configured, carried := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	far := netip.MustParseAddr("198.51.100.7")
	ok(t, netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: []byte{10, 1, 0, 254}, Dst: netlink.NewIPNet(
		far.AsSlice()), Src: own4.AsSlice()}))
	virtual := map[netip.Addr]bool{configured: true, carried: true}
	st, err := Read(Kernel{}, "in0", virtual, []netip.Addr{far, peer4, netip.MustParseAddr("2001:db8::1")})
	ok(t, err)
	if st.Index != index || !st.Up || st.MTU != 1500 || st.MAC != packet.MAC(l.Attrs().HardwareAddr) || st.Unknown ||
		st.Torn {
		t.Errorf("%+v", st)
	}
	if !st.Owns(own4) || !st.Owns(own6) || st.Owns(configured) || st.Owns(carried) || len(st.Own) != 1 ||
		st.Own[0].IP != configured {
		t.Errorf("addresses %v, own %v", st.Addrs, st.Own)
	}
	if len(st.Via) != 1 || st.Via[far] != own4 {
		t.Errorf("ways %v", st.Via)
	}
	host, err := netlink.LinkByName("host0")
	ok(t, err)
	ok(t, netlink.LinkSetDown(host)) // the carrier goes
	// The kernel tells later, in its own time: the sleep is the pause between two looks.
	for began := time.Now(); st.Up; time.Sleep(5 * time.Millisecond) {
		if st, err = Read(Kernel{}, "in0", virtual, nil); err != nil || time.Since(began) > 5*time.Second {
			t.Fatalf("without carrier it is up: %v", err)
		}
	}
	if st, err := Read(Kernel{}, "absent0", virtual, nil); err != nil || st.Index != 0 || st.Up || st.Unknown {
		t.Errorf("an interface that is not there: %+v, %v", st, err)
	}
}

// broken is a Reader that fails.
type broken struct{ link, addresses error }

func (b broken) Link(string) (State, error) { return State{Index: 7, Up: true}, b.link }
func (b broken) Addresses(int) ([]vip.Assigned, error) {
	return []vip.Assigned{{IP: own4}}, b.addresses
}

// TestReadFailures: what could not be read does not change what is known, and what is gone
// is not known any more.
func TestReadFailures(t *testing.T) {
	no := errors.New("no memory")
	known := State{Index: 7, MTU: 1500, Up: false, Addrs: []Address{{IP: own6}}, Own: []Address{{IP: peer6}},
		Via: map[netip.Addr]netip.Addr{peer4: own4}}
	for name, tt := range map[string]struct {
		r     broken
		index int
		up    bool
		addrs []netip.Addr
		fails bool
	}{
		"all is read":                  {broken{}, 7, true, []netip.Addr{own4}, false},
		"the interface cannot be read": {broken{link: no}, 7, false, []netip.Addr{own6}, true},
		"it is not there":              {broken{link: netlink.LinkNotFoundError{}}, 0, false, nil, false},
		"its addresses cannot be read": {broken{addresses: no}, 7, true, []netip.Addr{own6}, true},
		"it goes meanwhile":            {broken{addresses: unix.ENODEV}, 0, false, nil, false},
	} {
		st, err := Read(tt.r, "in0", nil, nil)
		st = st.After(known)
		if (err != nil) != tt.fails || st.Index != tt.index || st.Up != tt.up || len(st.Addrs) != len(tt.addrs) ||
			len(tt.addrs) > 0 && st.Addrs[0].IP != tt.addrs[0] {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if tt.fails && (len(st.Own) != 1 || len(st.Via) != 1) {
			t.Errorf("%s: own %v, ways %v", name, st.Own, st.Via)
		}
	}
	// Of another interface of that name nothing was known.
	st := State{Index: 8, Torn: true}
	if st = st.After(known); len(st.Addrs)+len(st.Own)+len(st.Via) > 0 || st.Index != 8 {
		t.Errorf("another interface: %+v", st)
	}
}

// TestAddressOf: an address that is not usable yet, or not any more, is none to speak from.
func TestAddressOf(t *testing.T) {
	for _, tt := range []struct {
		flags     uint32
		ok, spare bool
	}{
		{unix.IFA_F_PERMANENT, true, false},
		{unix.IFA_F_TENTATIVE, false, false},
		{unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC, true, false},
		{unix.IFA_F_DADFAILED, false, false},
		{unix.IFA_F_DADFAILED | unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC, false, false},
		{unix.IFA_F_SECONDARY, true, true},
		{unix.IFA_F_DEPRECATED, true, true},
	} {
		a, usable := AddressOf(vip.Assigned{IP: own6, Net: netip.MustParsePrefix("fd00:1::/64"), Flags: tt.flags})
		if usable != tt.ok || usable && (a.Spare != tt.spare || a.IP != own6 || a.Net.Bits() != 64) {
			t.Errorf("flags %#x: %+v, %v", tt.flags, a, usable)
		}
	}
}

// TestPoller: it returns for what it is told to wait for, at the time that it is told, and
// by a call from elsewhere.
func TestPoller(t *testing.T) {
	p, err := NewPoller()
	ok(t, err)
	t.Cleanup(p.Close)
	var pipe [2]int
	ok(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(pipe[1]) })
	ok(t, p.Add(pipe[0]))
	for range 2 { // the same time twice, and a past one
		at := BootTime() + 30*time.Millisecond
		ok(t, p.Wait(at))
		if now := BootTime(); now < at || now > at+2*time.Second {
			t.Errorf("waited until %v, want %v", now, at)
		}
	}
	ok(t, p.Wait(0))
	ok(t, p.Wait(BootTime()-time.Second))
	p.Wake()
	p.Wake()
	ok(t, p.Wait(carp.Never))
	// One wait takes all calls: the next one waits.
	at := BootTime() + 30*time.Millisecond
	ok(t, p.Wait(at))
	if BootTime() < at {
		t.Error("a call is noticed twice")
	}
	_, err = unix.Write(pipe[1], []byte{1})
	ok(t, err)
	for range 2 { // until it is read
		ok(t, p.Wait(carp.Never))
	}
	_, err = unix.Read(pipe[0], make([]byte, 8))
	ok(t, err)
	// A time that has been waited for counts again: it is past.
	at = BootTime() + 20*time.Millisecond
	done := make(chan error)
	go func() {
		for range 3 {
			if err := p.Wait(at); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		ok(t, err)
	case <-time.After(10 * time.Second):
		t.Error("a time that is past is waited for")
		for range 3 {
			p.Wake()
		}
		<-done
	}
}

// TestPort: an interface gives what is of the election and nothing else, and what is sent
// arrives on the other one, to the group and to one member.
func TestPort(t *testing.T) {
	t.Parallel()
	netns.Enter(t)
	index := netns.Veth(t, "in0", "host0", "10.1.0.11/24", "fd00:1::11/64")
	l, err := netlink.LinkByName("host0")
	ok(t, err)
	mac := l.Attrs().HardwareAddr
	for _, peer := range []netip.Addr{peer4, peer6} {
		ok(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: index, IP: peer.AsSlice(), HardwareAddr: mac,
			State: netlink.NUD_PERMANENT}))
	}
	near, far := NewPort("in0"), NewPort("host0")
	if near.FD() != -1 {
		t.Error("a port without sockets has a descriptor")
	}
	near.Unicast4, near.Unicast6 = true, true
	ok(t, near.Open(index))
	ok(t, near.Open(index)) // again, as after it was away
	ok(t, far.Open(l.Attrs().Index))
	t.Cleanup(near.Close)
	t.Cleanup(far.Close)
	if near.Index != index {
		t.Errorf("index %d, want %d", near.Index, index)
	}
	frame := func(from, to netip.Addr, proto uint8, text string) []byte {
		f := packet.Frame{Src: packet.MAC{2, 0, 0, 0, 0, 9}, SrcIP: from, DstIP: to, TTL: 255, Proto: proto,
			Payload: []byte(text)}
		f.Dst = packet.GroupMAC(to)
		b, err := f.Append(nil)
		ok(t, err)
		return b
	}
	tagged := frame(own4, packet.Group4(), packet.Protocol, "tagged")
	tagged = append(tagged[:12:12], append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil,
		unix.ETH_P_8021Q), 7), tagged[12:]...)...)
	ok(t, near.Write(tagged))
	ok(t, near.Write(frame(own4, packet.Group4(), unix.IPPROTO_UDP, "not ours")))
	ok(t, near.Write(frame(own6, packet.Group6(), unix.IPPROTO_UDP, "nor this")))
	ok(t, near.Write(packet.AppendGratuitousARP(nil, packet.MAC{2, 0, 0, 0, 0, 9}, own4)))
	ok(t, near.Write(frame(own4, packet.Group4(), packet.Protocol, "group 4")))
	ok(t, near.Write(frame(own6, packet.Group6(), packet.Protocol, "group 6")))
	for _, p := range []*Path{{Peer: peer4, Source: Source{Src: own4}}, {Peer: peer6, Source: Source{Src: own6}}} {
		p.Aim(index)
		ok(t, near.Send([]byte("member of "+p.Peer.String()), p))
	}
	want := map[string]netip.Addr{"group 4": own4, "group 6": own6, "member of " + peer4.String(): own4,
		"member of " + peer6.String(): own6}
	b := make([]byte, 2048)
	for began := time.Now(); len(want) > 0; {
		n, err := far.Read(b)
		if errors.Is(err, unix.EAGAIN) {
			if time.Since(began) > 5*time.Second {
				t.Fatalf("not received: %v", want)
			}
			time.Sleep(time.Millisecond) // the socket does not block: the pause between two looks
			continue
		}
		ok(t, err)
		var f packet.Frame
		ok(t, f.Parse(b[:n]))
		text := string(f.Payload)
		if src, is := want[text]; !is || f.SrcIP != src || f.TTL != 255 || f.Proto != packet.Protocol {
			t.Errorf("received %q from %v, hop limit %d, protocol %d", text, f.SrcIP, f.TTL, f.Proto)
		}
		delete(want, text)
	}
	near.Close()
	if near.FD() != -1 || near.Index != 0 {
		t.Errorf("closed: %+v", near)
	}
	if err := near.Open(index + 1000); err == nil || near.FD() != -1 {
		t.Errorf("opened on an interface that is not there: %v", err)
	}
}
