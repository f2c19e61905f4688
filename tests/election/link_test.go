package election

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/carp/api"
	"sasyncd/carp/vip"
	"sasyncd/tests/harness/lab"
)

// churn repeats a change of a node's interfaces or addresses until it is stopped,
// and returns how often it was made.
func churn(t *testing.T, nd *lab.Node, change func(nl *netlink.Handle, n int) error) (stop func() int) {
	t.Helper()
	var nl *netlink.Handle
	if err := nd.Do(func() (err error) { nl, err = netlink.NewHandle(); return err }); err != nil {
		t.Fatal(err)
	}
	end, n := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		defer nl.Close()
		for ; ; n++ {
			select {
			case <-end:
				return
			default:
			}
			if err := change(nl, n); err != nil {
				t.Errorf("change %d: %v", n, err)
				return
			}
		}
	})
	return sync.OnceValue(func() int {
		close(end)
		wg.Wait()
		return n
	})
}

// host is a host address in net.
func host(text string) *netlink.Addr {
	ip := net.ParseIP(text)
	bits := 128
	if ip.To4() != nil {
		ip, bits = ip.To4(), 32
	}
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}}
}

// comeAndGo adds and removes addresses of an interface, some at a time.
func comeAndGo(t *testing.T, nd *lab.Node, device string) (stop func() int) {
	t.Helper()
	l, err := nd.Netlink().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return churn(t, nd, func(nl *netlink.Handle, n int) error {
		for _, a := range []*netlink.Addr{host(fmt.Sprintf("10.77.0.%d", n%250+1)),
			host(fmt.Sprintf("fd00:77::%x", n%250+1))} {
			if err := errors.Join(nl.AddrAdd(l, a), nl.AddrDel(l, a)); err != nil {
				return err
			}
		}
		return nil
	})
}

// stock gives an interface so many addresses that a list of them comes in pieces.
func stock(nd *lab.Node, device string, count int) {
	var lines strings.Builder
	for n := range count {
		fmt.Fprintf(&lines, "addr add 10.99.%d.%d/32 dev %s\n", n/250, n%250+1, device)
	}
	nd.IP(strings.Split(strings.TrimSpace(lines.String()), "\n")...)
}

// What other programs change on a gateway is no reason to give mastership up:
// containers and users who dial in come and go, and each list of addresses that is
// read meanwhile comes out torn.
func TestForeignChanges(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, g *gateway) (stop func() int){
		"addresses of another interface": func(t *testing.T, g *gateway) func() int {
			return comeAndGo(t, g.Node,
				"lan")
		},
		"addresses of the interface": func(t *testing.T, g *gateway) func() int {
			return comeAndGo(t, g.Node,
				"in0")
		},
		"interfaces": func(t *testing.T, g *gateway) func() int {
			return churn(t, g.Node, func(nl *netlink.Handle, n int) error {
				attrs := netlink.NewLinkAttrs()
				attrs.Name = "v0"
				v := &netlink.Veth{LinkAttrs: attrs, PeerName: "w0"}
				return errors.Join(nl.LinkAdd(v), nl.LinkDel(v))
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.instances = func(g *gateway) string {
				var many strings.Builder
				for n := range 80 {
					fmt.Fprintf(&many, "address 10.1.1.%d/32; address fd00:1::1:%x/128; ", n+1, n+1)
				}
				return fmt.Sprintf(`vrrp inside { carpdev in0; vrid 10; priority %d; %sgroup gate }`, g.priority,
					many.String())
			}
			a, b := p.gws[0], p.gws[1]
			a.IP("link add lan type bridge", "link set lan up")
			stock(a.Node, "lan", 400)
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("master heard", 2)
			wasA, wasB := a.state(), b.state()
			changes := func() int {
				return strings.Count(a.d.Output()+b.d.Output(), " state group=")
			}
			before := changes()
			stop := begin(t, a)
			end := time.Now().Add(4 * time.Second)
			lab.Eventually(t, 10*time.Second, "the time has passed", func() bool { return time.Now().After(end) })
			if n := stop(); n < 20 {
				t.Errorf("only %d changes in 4 s", n)
			}
			if n := changes() - before; n != 0 {
				t.Errorf("%d changes of state", n)
			}
			a.same(t, wasA)
			b.same(t, wasB)
			for _, vip := range []string{"10.1.1.1", "10.1.1.80", "fd00:1::1:1", "fd00:1::1:50"} {
				if out := a.Run("ip -o addr show dev in0"); !strings.Contains(out, " "+vip+"/") {
					t.Errorf("%s is gone", vip)
				}
			}
		})
	}
}

// The interface gets another MAC address, as a bond does whose slave has failed:
// neighbours learn it at once, for the addresses of both families.
func TestMACChange(t *testing.T) {
	t.Parallel()
	p, a, _ := run(t)
	for _, ip := range []netip.Addr{vipIn, vipIn6} {
		if err := p.host.Ping(ip, patience); err != nil {
			t.Fatal(err)
		}
	}
	// Past the announcements that follow every takeover.
	a.awaitFor(6 * time.Second)
	was := a.state()
	const mac = "02:00:00:00:00:42"
	for _, ip := range []netip.Addr{vipIn, vipIn6} {
		p.host.IP(fmt.Sprintf("neigh replace %v lladdr %s dev eth0 nud reachable", ip, "02:00:00:00:00:41"))
	}
	a.IP("link set in0 address " + mac)
	for _, ip := range []netip.Addr{vipIn, vipIn6} {
		lab.Eventually(t, 2*time.Second, fmt.Sprintf("the neighbour knows where %v is", ip), func() bool {
			return strings.Contains(p.host.Run("ip neigh show "+ip.String()), mac)
		})
	}
	a.same(t, was)
}

// Addresses whose leases cannot be renewed end the mastership before the leases end:
// another gateway has them then, and this one says why it has not.
func TestRenewalRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.instances = func(g *gateway) string {
		return fmt.Sprintf(`vrrp inside { carpdev in0; vrid 10; priority %d; address 10.1.0.1/32; mac virtual; group gate }`, g.priority)
	}
	a, b := p.gws[0], p.gws[1]
	p.start(a)
	a.await(api.StateMaster, patience)
	p.start(b)
	b.awaitLog("master heard", 1)
	l, err := a.Netlink().LinkByName("in0")
	if err != nil {
		t.Fatal(err)
	}
	// Somebody makes the virtual interface another one.
	name := vip.MACName(l.Attrs().Index, [6]byte{0, 0, 0x5e, 0, 1, 10})
	a.IP("link set " + name + " address 02:00:00:00:00:42")
	b.await(api.StateMaster, patience)
	s := a.state()
	if s.State != api.StateBackup || !strings.Contains(s.Reason, "leases cannot be renewed") ||
		!strings.Contains(s.Reason, name) {
		t.Errorf("state %s, reason %q", s.State, s.Reason)
	}
	// It does not try again and again to be what it cannot.
	was := b.state()
	a.awaitFor(8 * time.Second)
	b.same(t, was)
}
