package election

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
	"sasyncd/tests/harness/lab"
)

// addressesOf opens package vip on a node that has one interface, in0.
func addressesOf(t *testing.T) (nd *lab.Node, v placed, index int) {
	t.Helper()
	n := lab.New(t)
	nd = n.Node("gw")
	nd.Plug(n.Switch("in"), "in0", "10.1.0.11/24", "fd00:1::11/64")
	err := nd.Do(func() (err error) {
		l, err := net.InterfaceByName("in0")
		if err == nil {
			index = l.Index
			v.Virtual, err = vip.NewVirtual()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	v.nd = nd
	return nd, v, index
}

// placed is a vip.Virtual whose calls are made in a node's network namespace: it
// reads addresses in that of the calling thread, as carpd has only one.
type placed struct {
	*vip.Virtual
	nd *lab.Node
}

func (p placed) Acquire(as []vip.Address, lease time.Duration) error {
	return p.nd.Do(func() error { _, err := p.Virtual.Acquire(as, lease); return err })
}

func (p placed) Renew(as []vip.Address, lease time.Duration) error {
	return p.nd.Do(func() error { return p.Virtual.Renew(as, lease) })
}

func (p placed) Release(as []vip.Address) error {
	return p.nd.Do(func() error { return p.Virtual.Release(as) })
}

func (p placed) Present() (have map[netip.Addr]bool, err error) {
	err = p.nd.Do(func() (err error) {
		have, err = p.Virtual.Present()
		return err
	})
	return have, err
}

const leaseOf = 2 * time.Second

// Where the kernel refuses, or the interface has gone, the error says which
// address it was, and what can be done is done all the same.
func TestAddressErrors(t *testing.T) {
	nd, v, index := addressesOf(t)
	good := vip.Address{IP: vipIn, Index: index}
	gone := vip.Address{IP: vipOut, Index: index + 1000}
	err := v.Acquire([]vip.Address{gone, good}, leaseOf)
	if err == nil || !strings.Contains(err.Error(), vipOut.String()) || strings.Contains(err.Error(), vipIn.String()+
		":") {
		t.Errorf("acquire on an interface that is not there: %v", err)
	}
	have, err := v.Present()
	if err != nil || !have[vipIn] || have[vipOut] {
		t.Errorf("present: %v, %v", have, err)
	}
	if err := v.Renew([]vip.Address{gone, good}, leaseOf); err == nil {
		t.Error("renewal on an interface that is not there")
	}
	// Nothing to remove is no error: that is what is wanted.
	for range 2 {
		if err := v.Release([]vip.Address{gone, good}); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if have, err := v.Present(); err != nil || have[vipIn] {
		t.Errorf("present after release: %v, %v", have, err)
	}

	// A kernel that refuses is not waited for for ever.
	nd.Sysctl("net/ipv6/conf/in0/disable_ipv6=1")
	began := time.Now()
	if err := v.Acquire([]vip.Address{{IP: vipIn6, Index: index}}, leaseOf); err == nil ||
		!strings.Contains(err.Error(), vipIn6.String()) {
		t.Errorf("acquire on an interface without IPv6: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the kernel was waited for for %v", took)
	}
	nd.IP("link del in0")
	if err := v.Release([]vip.Address{good, {IP: vipIn6, Index: index}}); err != nil {
		t.Errorf("release after the interface has gone: %v", err)
	}

	var hops *vip.NextHops
	var say *vip.Announcer
	err = nd.Do(func() (err error) {
		if hops, err = vip.NewNextHops(); err == nil {
			say, err = vip.NewAnnouncer()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer hops.Close()
	defer say.Close()
	if err := errors.Join(hops.Keep([]int{index}), hops.Purge([]int{index})); err != nil {
		t.Errorf("next hops on an interface that has gone: %v", err)
	}
	if err := say.Announce([]vip.Address{good, {IP: vipIn6, Index: index}}); !errors.Is(err, unix.ENXIO) &&
		!errors.Is(err, unix.ENODEV) ||
		strings.Count(err.Error(), "announce") != 2 {
		t.Errorf("announcement on an interface that has gone: %v", err)
	}
}

// The macvlan of a virtual MAC: taken over where it exists, made anew where
// somebody took it away, refused where its name belongs to something else.
func TestVirtualInterfaceErrors(t *testing.T) {
	nd, v, index := addressesOf(t)
	mac := packet.VirtualMAC(10, false)
	as := []vip.Address{{IP: vipIn, Index: index, MAC: mac, Virtual: true}, {IP: vipOut, Index: index, MAC: mac,
		Virtual: true}}
	name := vip.MACName(index, mac)

	nd.IP("link add " + name + " type bridge")
	if err := v.Acquire(as, leaseOf); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("acquire where another interface has the name: %v", err)
	}
	if have, err := v.Present(); err != nil || have[vipIn] || have[vipOut] {
		t.Errorf("an address is there without its MAC: %v, %v", have, err)
	}
	nd.IP("link del " + name)

	if err := v.Acquire(as, leaseOf); err != nil {
		t.Fatal(err)
	}
	up := func() bool { return strings.Contains(nd.Run("ip -o link show "+name), ",UP") }
	if out := nd.Run("ip -o -4 addr show dev " + name); !up() || !strings.Contains(out, vipIn.String()) ||
		!strings.Contains(out, vipOut.String()) {
		t.Errorf("after acquire: %s", out)
	}
	nd.IP("link del " + name)
	if err := v.Renew(as, leaseOf); err != nil || !up() {
		t.Errorf("renewal after somebody deleted the interface: %v", err)
	}
	// One of two goes: the interface stays up for the other.
	if err := v.Release(as[:1]); err != nil || !up() {
		t.Errorf("release of one of two addresses: %v, up %v", err, up())
	}
	if err := v.Release(as); err != nil || up() {
		t.Errorf("release of the last: %v, up %v", err, up())
	}
	nd.IP("link del in0")
	if err := v.Release(as); err != nil {
		t.Errorf("release after the parent has gone: %v", err)
	}
	if err := v.Acquire(as, leaseOf); err == nil {
		t.Error("acquire after the parent has gone")
	}
}

// A packet that waits for a neighbour may have come out of a tunnel. When it is
// dropped, nobody is told about it in the clear.
func TestPurgeIsSilent(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := p.gws[0]
	p.peer.IP("route add 10.1.0.0/24 via 10.3.0.11", "route add fd00:1::/64 via fd00:3::11")
	var hops *vip.NextHops
	if err := g.Do(func() (err error) { hops, err = vip.NewNextHops(); return err }); err != nil {
		t.Fatal(err)
	}
	defer hops.Close()
	link, err := g.Netlink().LinkByName("in0")
	if err != nil {
		t.Fatal(err)
	}
	before := unreachables(t, g.Node)
	for _, nobody := range []string{"10.1.0.55", "fd00:1::55"} {
		var c net.Conn
		err := p.peer.Do(func() (err error) { c, err = net.Dial("udp", net.JoinHostPort(nobody, "9")); return err })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("secret")); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 2*time.Second, "the packet to wait for "+nobody, func() bool {
			return strings.Contains(g.Run("ip neigh show "+nobody), "INCOMPLETE")
		})
		if err := hops.Purge([]int{link.Attrs().Index}); err != nil {
			t.Fatal(err)
		}
		if out := g.Run("ip neigh show " + nobody); out != "" {
			t.Errorf("after the purge: %s", out)
		}
	}
	// An error is sent at once.
	if now := unreachables(t, g.Node); now != before {
		t.Errorf("errors sent: %s, before: %s", now, before)
	}
	for _, family := range []string{"-4", "-6"} {
		if out := g.Run("ip " + family + " rule"); strings.Contains(out, "icmp") {
			t.Errorf("a rule was left behind: %s", out)
		}
	}
}

// unreachables is how many errors of that kind a node has sent.
func unreachables(t *testing.T, nd *lab.Node) (text string) {
	t.Helper()
	err := nd.Do(func() error {
		four, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		six, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		names, values, _ := strings.Cut(string(four[strings.Index(string(four), "\nIcmp: ")+1:]), "\n")
		values, _, _ = strings.Cut(values, "\n")
		for i, name := range strings.Fields(names) {
			if name == "OutDestUnreachs" {
				text = strings.Fields(values)[i]
			}
		}
		for line := range strings.Lines(string(six)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "Icmp6OutDestUnreachs" {
				text += " and " + f[1]
			}
		}
		return nil
	})
	if err != nil || !strings.Contains(text, " and ") {
		t.Fatalf("read counters of ICMP: %q, %v", text, err)
	}
	return text
}
