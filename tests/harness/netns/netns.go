// Package netns gives a test of one package a network namespace of its own, on the
// machine's kernel. It needs root, but no ESP. Package lab is for networks of machines.
package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Enter puts the calling test into a network namespace of its own, with the loopback
// up. Without root it skips the test, and says so.
//
// The namespace is that of the thread, which ends with the test's goroutine: a subtest,
// or a goroutine that opens a socket, is outside.
func Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked, so nobody gets the thread afterwards
	if err := unix.Unshare(unix.CLONE_NEWNET); errors.Is(err, unix.EPERM) {
		t.Skip("needs root, to make a network namespace")
	} else if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	for _, name := range []string{"accept_dad", "dad_transmits", "accept_ra"} {
		Set(t, "ipv6/conf/default/"+name, "0")
	}
	Up(t, "lo")
}

// Set gives a setting of net, below /proc/sys/net, a value.
func Set(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		t.Fatalf("set net/%s: %v", name, err)
	}
}

// Veth adds a pair of interfaces, both up, and returns the index of the first, which has
// the addresses with prefix lengths. They can be used at once.
func Veth(t testing.TB, name, far string, addrs ...string) int {
	t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: far}); err != nil {
		t.Fatalf("add interfaces %s and %s: %v", name, far, err)
	}
	Up(t, far)
	l := Up(t, name)
	for _, s := range addrs {
		Add(t, name, s)
	}
	return l.Attrs().Index
}

// Up sets an interface up and returns it.
func Up(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatalf("set up %s: %v", name, err)
	}
	return l
}

// Add gives an interface an address with a prefix length.
func Add(t testing.TB, name, addr string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags |= unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatalf("add %s to %s: %v", addr, name, err)
	}
	if a.IP.To4() != nil || l.Attrs().Flags&net.FlagUp == 0 {
		return
	}
	// The kernel takes an IPv6 address for its own a moment later.
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if to, err := netlink.RouteGet(a.IP); err == nil && len(to) > 0 && to[0].Type == unix.RTN_LOCAL {
			return
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("%s, added to %s, is not the kernel's own", addr, name)
		}
	}
}

// Way asks the kernel how a packet leaves from one address to another. It returns false
// where it does not.
func Way(from, to netip.Addr) (netlink.Route, bool) {
	list, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice()})
	if err != nil || len(list) == 0 {
		return netlink.Route{}, false
	}
	return list[0], true
}
