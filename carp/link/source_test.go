package link

import (
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// addresses of an interface, in the order of the kernel.
func addressesOf(list ...string) (st State) {
	for _, s := range list {
		p := netip.MustParsePrefix(s)
		st.Addrs = append(st.Addrs, Address{IP: p.Addr(), Net: p.Masked()})
	}
	return st
}

// The address that leads to the member is chosen, whatever others are there, and
// stays while it exists.
func TestSource(t *testing.T) {
	for _, tc := range []struct {
		name  string
		addrs []string
		via   string // the kernel's way to the destination
		dst   string
		used  string
		want  string
	}{
		{name: "IPv4, not the first", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"},
			dst: "192.0.2.3", want: "192.0.2.2"},
		{name: "IPv6, not the newest", addrs: []string{"2001:db8:5::2/64", "2001:db8::2/64"},
			dst: "2001:db8::3", want: "2001:db8::2"},
		{name: "the narrowest network", addrs: []string{"10.0.0.2/8", "10.1.0.2/16"},
			dst: "10.1.0.3", want: "10.1.0.2"},
		{name: "a narrower network comes", addrs: []string{"10.1.0.9/28", "10.1.0.2/16"},
			dst: "10.1.0.3", used: "10.1.0.2", want: "10.1.0.2"},
		{name: "a second one in the network", addrs: []string{"2001:db8::1/64", "2001:db8::2/64"},
			dst: "2001:db8::3", used: "2001:db8::2", want: "2001:db8::2"},
		{name: "the same after a restart", addrs: []string{"2001:db8::9/64", "2001:db8::2/64"},
			dst: "2001:db8::3", want: "2001:db8::2"},
		{name: "IPv4 after a restart: the primary", addrs: []string{"192.0.2.9/24", "192.0.2.2/24"},
			dst: "192.0.2.3", want: "192.0.2.9"},
		{name: "it is gone", addrs: []string{"192.0.2.9/24"}, dst: "192.0.2.3", used: "192.0.2.2", want: "192.0.2.9"},
		{name: "one that leads there comes late", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"},
			dst: "192.0.2.3", used: "172.16.9.2", want: "192.0.2.2"},
		{name: "beyond a router", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"}, via: "192.0.2.2",
			dst: "198.51.100.3", want: "192.0.2.2"},
		{name: "beyond a router, another way", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"}, via: "192.0.2.2",
			dst: "198.51.100.3", used: "172.16.9.2", want: "192.0.2.2"},
		{name: "no route", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"},
			dst: "198.51.100.3", used: "192.0.2.2", want: "192.0.2.2"},
		{name: "link-local", addrs: []string{"2001:db8::2/64", "fe80::2/64"}, dst: "fe80::3", want: "fe80::2"},
		{name: "no link-local to others", addrs: []string{"fe80::2/64"}, dst: "2001:db8::3"},
		{name: "none of the family", addrs: []string{"192.0.2.2/24"}, dst: "2001:db8::3"},
		{name: "multicast IPv4: the first", addrs: []string{"172.16.9.2/16", "192.0.2.2/24"},
			dst: "224.0.0.18", want: "172.16.9.2"},
		{name: "multicast IPv4 stays", addrs: []string{"172.16.9.2/24", "192.0.2.2/24"},
			dst: "224.0.0.18", used: "192.0.2.2", want: "192.0.2.2"},
		{name: "multicast IPv6", addrs: []string{"2001:db8::2/64", "fe80::2/64"}, dst: "ff02::12", want: "fe80::2"},
		{name: "multicast IPv6, a second link-local one comes", addrs: []string{"fe80::1/64", "fe80::2/64"},
			dst: "ff02::12", used: "fe80::2", want: "fe80::2"},
	} {
		st := addressesOf(tc.addrs...)
		dst, used, want := netip.MustParseAddr(tc.dst), netip.Addr{}, netip.Addr{}
		if tc.used != "" {
			used = netip.MustParseAddr(tc.used)
		}
		if tc.want != "" {
			want = netip.MustParseAddr(tc.want)
		}
		if tc.via != "" {
			st.Via = map[netip.Addr]netip.Addr{dst: netip.MustParseAddr(tc.via)}
		}
		s := Source{Src: used, home: used}
		if s.Choose(&st, dst); s.Src != want {
			t.Errorf("%s: %v, want %v", tc.name, s.Src, want)
		}
	}
}

// An address that is away for a moment, as all of IPv6 are when a link comes up,
// is taken again.
func TestSourceComesBack(t *testing.T) {
	dst := netip.MustParseAddr("2001:db8::3")
	var s Source
	for _, step := range []struct {
		addrs []string
		want  string
	}{
		{[]string{"2001:db8::5/64"}, "2001:db8::5"},
		{[]string{"2001:db8::2/64", "2001:db8::5/64"}, "2001:db8::5"},
		{nil, "invalid IP"},
		{[]string{"2001:db8::2/64"}, "2001:db8::2"},
		{[]string{"2001:db8::1/64", "2001:db8::2/64"}, "2001:db8::2"},
		{[]string{"2001:db8::1/64", "2001:db8::5/64", "2001:db8::2/64"}, "2001:db8::5"},
	} {
		st := addressesOf(step.addrs...)
		if s.Choose(&st, dst); s.Src.String() != step.want {
			t.Errorf("of %v: %v, want %s", step.addrs, s.Src, step.want)
		}
	}
}

// TestAim: a member is spoken to from the address that leads there, and by the interface;
// a link-local one says nothing without.
func TestAim(t *testing.T) {
	for _, tt := range []struct {
		peer, src string
		to        unix.Sockaddr
	}{
		{"192.0.2.3", "192.0.2.2", &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 3}}},
		{"2001:db8::3", "2001:db8::2", &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::3").As16()}},
		{"fe80::3", "fe80::2", &unix.SockaddrInet6{Addr: netip.MustParseAddr("fe80::3").As16(), ZoneId: 7}},
		{"fe80::3", "", nil},
	} {
		p := Path{Peer: netip.MustParseAddr(tt.peer)}
		if tt.src != "" {
			p.Src = netip.MustParseAddr(tt.src)
		}
		p.Aim(7)
		if !reflect.DeepEqual(p.to, tt.to) || (tt.to == nil) != (p.control == nil) {
			t.Errorf("to %s from %s: %+v, %v", tt.peer, tt.src, p.to, p.control)
		}
	}
}
