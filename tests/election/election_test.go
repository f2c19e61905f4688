package election

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/carp/api"
	"sasyncd/carp/packet"
	"sasyncd/tests/harness/lab"
)

const (
	// takeover is three intervals, the skew of priority 150, and the machine.
	takeover = 3*interval + 106*interval/256 + 1500*time.Millisecond
	// leaseEnd is how long an address may stay without a living carpd.
	leaseEnd = 2350*time.Millisecond + 1500*time.Millisecond
)

func TestElection(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	if a.holds() != 4 || b.holds() != 0 {
		t.Errorf("master holds %d addresses, backup %d; want 4 and 0", a.holds(), b.holds())
	}
	if a.fenced() != 0 || b.fenced() != 4 {
		t.Errorf("fenced: master %d, backup %d; want 0 and 4", a.fenced(), b.fenced())
	}
	s := a.state()
	if s.Term != 1 || len(s.Instances) != 2 || len(s.VIPs) != 6 { // 4 and two link-local ones
		t.Errorf("state %+v", s)
	}
	for _, vip := range []string{"10.1.0.1/32", "fd00:1::1/128", "10.3.0.1/32", "fd00:3::1/128"} {
		out := a.Run("ip -o addr show")
		at := strings.Index(out, " "+vip)
		if at < 0 {
			t.Errorf("%s is not there as a host address:\n%s", vip, out)
			continue
		}
		line, _, _ := strings.Cut(out[at:], "\n")
		if !strings.Contains(line, "noprefixroute") || strings.Contains(line, "valid_lft forever") {
			t.Errorf("%s has no lease or a prefix route: %s", vip, line)
		}
	}
	// The lease is renewed for as long as carpd lives.
	end := time.Now().Add(4 * time.Second)
	lab.Eventually(t, 5*time.Second, "four seconds have passed", func() bool {
		if a.holds() != 4 {
			t.Fatal("an address was lost")
		}
		return time.Now().After(end)
	})
}

// The neighbours must follow at once, although they know the old master.
func TestNeighboursFollow(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	knows := func(g *gateway) bool {
		in4, in6 := p.host.Run("ip neigh show 10.1.0.1"), p.host.Run("ip -6 neigh show fd00:1::1")
		return strings.Contains(in4, g.in.MAC.String()) && strings.Contains(in6, g.in.MAC.String())
	}
	p.host.IP("neigh replace 10.1.0.1 dev eth0 lladdr "+a.in.MAC.String()+" nud reachable",
		"neigh replace fd00:1::1 dev eth0 lladdr "+a.in.MAC.String()+" nud reachable")
	if !knows(a) {
		t.Fatal("neighbours of the host could not be set")
	}
	a.d.Kill()
	b.await(api.StateMaster, takeover+2*time.Second)
	lab.Eventually(t, patience, "the host has learned the new master", func() bool { return knows(b) })
}

func TestKill(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	a.d.Kill()
	killed := time.Now()
	b.await(api.StateMaster, takeover)
	lab.Eventually(t, leaseEnd-time.Since(killed), "the dead node's addresses are gone",
		func() bool { return a.holds() == 0 })

	// Its return changes nothing.
	p.start(a)
	a.await(api.StateBackup, patience)
	a.awaitLog("master heard", 4)
	lab.Eventually(t, patience, "the returned node has listened for a down interval", func() bool {
		if b.state().State != api.StateMaster || b.holds() != 4 || a.holds() != 0 {
			t.Fatal("mastership moved on return")
		}
		return a.state().AgeMS > 2000
	})
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	p, a, _ := run(t)
	a.d.Kill()
	// What a carpd leaves that is killed while it drops what waits for neighbours.
	for _, rule := range []string{"-4 rule add pref 4 iif lo ipproto icmp blackhole proto 112",
		"-6 rule add pref 4 iif lo ipproto ipv6-icmp blackhole proto 112"} {
		a.Run("ip " + rule)
	}
	if out, err := a.Try(program(t, "carpd") + " -c " + p.config(a) + " cleanup"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if a.holds() != 0 || a.fenced() != 4 {
		t.Errorf("%d addresses, %d fenced; want 0 and 4", a.holds(), a.fenced())
	}
	for _, family := range []string{"-4", "-6"} {
		if left := a.Run("ip " + family + " rule show pref 4"); left != "" {
			t.Errorf("ICMP of the node is still mute: %s", left)
		}
	}
}

func TestTerminate(t *testing.T) {
	_, a, b := run(t)
	if code := a.d.Term(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if a.holds() != 0 || a.fenced() != 4 {
		t.Errorf("after the exit %d addresses, %d fenced; want 0 and 4", a.holds(), a.fenced())
	}
	// Not a down interval, only the skew.
	b.await(api.StateMaster, patience)
	if r := b.state().Reason; r != "master resigned" {
		t.Errorf("reason %q", r)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	a.d.Signal(syscall.SIGSTOP)
	b.await(api.StateMaster, takeover)
	lab.Eventually(t, leaseEnd, "the stopped node's addresses are gone", func() bool { return a.holds() == 0 })
	a.d.Signal(syscall.SIGCONT)
	a.await(api.StateBackup, patience)
	if out := a.d.Output(); !strings.Contains(out, "advertisement late") {
		t.Error("the stall was not noticed")
	}
	if b.state().State != api.StateMaster {
		t.Error("the stalled node came back as master")
	}
}

// A cut of one side moves both, and tells the other side's peer at once.
func TestOneCable(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	a.in.Pull()
	b.await(api.StateMaster, takeover)
	a.await(api.StateInit, patience)
	if a.holds() != 0 || a.fenced() != 4 {
		t.Errorf("%d addresses, %d fenced; want 0 and 4", a.holds(), a.fenced())
	}
	a.in.Replug()
	a.await(api.StateBackup, patience)
	if b.state().State != api.StateMaster {
		t.Error("mastership moved on return")
	}
}

// What only one side cannot hear must not make half a master.
func TestOneWayFault(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	// The switch stops delivering multicast to the backup's inside.
	p.net.Fabric().Run("bridge link set dev " + b.in.Outer + " mcast_flood off")
	lab.Eventually(t, patience, "the backup hears nothing inside", func() bool {
		s := b.state()
		return s.Instances[0].Routers[0].Expired && s.Instances[0].Routers[1].Expired
	})
	if b.state().State != api.StateBackup || b.holds() != 0 || a.state().State != api.StateMaster {
		t.Error("the half-deaf node became master")
	}
	if sent := b.state().Instances[0].Routers[0].Sent; sent != 0 {
		t.Errorf("the backup advertised %d times", sent)
	}
}

// Packets are read before the kernel's reverse path filter and routing policy,
// which silence the raw sockets that others use.
func TestFilteredNode(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	if !b.hearsRaw() {
		t.Fatal("a raw socket hears nothing to begin with")
	}
	for _, g := range []*gateway{a, b} {
		g.Sysctl("net/ipv4/conf/all/rp_filter=1", "net/ipv4/conf/in0/rp_filter=1")
		g.IP("rule add pref 1 to 10.1.0.0/24 prohibit")
	}
	if b.hearsRaw() {
		t.Fatal("a raw socket still hears the advertisements")
	}
	before := b.state()
	b.awaitFor(time.Duration(before.AgeMS)*time.Millisecond + 2*takeover)
	after := b.state()
	if b.state().State != api.StateBackup || a.state().State != api.StateMaster {
		t.Error("mastership moved")
	}
	if after.Instances[0].Routers[0].Received <= before.Instances[0].Routers[0].Received+4 {
		t.Error("advertisements do not arrive any more")
	}
}

// hearsRaw reports whether an ordinary raw socket gets advertisements inside.
func (g *gateway) hearsRaw() bool {
	g.t.Helper()
	heard := false
	err := g.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, packet.Protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		l, err := net.InterfaceByName("in0")
		if err != nil {
			return err
		}
		if err := unix.BindToDevice(fd, "in0"); err != nil {
			return err
		}
		mreq := unix.IPMreqn{Multiaddr: packet.Group4().As4(), Ifindex: int32(l.Index)}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &mreq); err != nil {
			return err
		}
		limit := unix.NsecToTimeval(int64(4 * interval))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		_, err = unix.Read(fd, make([]byte, 1500))
		heard = err == nil
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return heard
}

// Two masters that meet again: one stays, and the neighbours know which.
func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	flood := func(how string) {
		for _, port := range []*lab.Port{a.in, b.in, a.out, b.out} {
			p.net.Fabric().Run("bridge link set dev " + port.Outer + " mcast_flood " + how)
		}
	}
	flood("off")
	b.await(api.StateMaster, takeover)
	flood("on")
	b.await(api.StateBackup, takeover)
	if b.holds() != 0 || b.fenced() != 4 || a.holds() != 4 {
		t.Errorf("addresses %d and %d, loser fenced %d", a.holds(), b.holds(), b.fenced())
	}
	a.awaitLog("mastership contested", 1)
	in4 := p.host.Run("ip neigh show 10.1.0.1")
	if strings.Contains(in4, b.in.MAC.String()) {
		t.Errorf("the host still knows the loser: %s", in4)
	}
}

// The next hops are resolved before anybody needs them.
func TestNextHopsAreKept(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	g := p.gws[0]
	g.IP("route add 10.99.0.0/16 via 10.3.0.100", "route add fd99::/16 via fd00:3::100")
	p.start(g)
	g.await(api.StateMaster, patience)
	for _, hop := range []string{"10.3.0.100", "fd00:3::100"} {
		lab.Eventually(t, patience, hop+" is kept", func() bool {
			out := g.Run("ip neigh show " + hop)
			return strings.Contains(out, "managed") && strings.Contains(out, "REACHABLE")
		})
	}
}

// What waits on a backup for the virtual addresses to answer must not leave
// when the next master announces them: it would be as late as this one has been
// master, which is beyond the window of any SA.
func TestOwnAddressIsNoNeighbour(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	known := func() string { return b.Run("ip neigh show 10.1.0.1") + b.Run("ip neigh show fd00:3::1") }
	b.IP("neigh replace 10.1.0.1 dev in0 lladdr "+a.in.MAC.String()+" nud stale",
		"neigh replace fd00:3::1 dev out0 lladdr "+a.out.MAC.String()+" nud stale")
	if n := strings.Count(known(), "lladdr"); n != 2 {
		t.Fatalf("%d neighbours: %s", n, known())
	}
	a.d.Kill()
	b.await(api.StateMaster, takeover)
	lab.Eventually(t, time.Second, "the master's own addresses to be no neighbours",
		func() bool { return known() == "" })
}

func TestAddressDeletedByHand(t *testing.T) {
	t.Parallel()
	_, a, _ := run(t)
	a.IP("addr del 10.1.0.1/32 dev in0", "addr del fd00:3::1/128 dev out0")
	lab.Eventually(t, patience, "the addresses are back", func() bool { return a.holds() == 4 })
	if a.state().State != api.StateMaster {
		t.Error("no longer master")
	}
}

func TestInterfaceRecreated(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	a.IP("link del in0")
	b.await(api.StateMaster, takeover)
	a.await(api.StateInit, patience)
	a.in = a.Plug(p.in, "in0", "10.1.0.11/24", "fd00:1::11/64")
	a.await(api.StateBackup, patience)
	b.d.Kill()
	a.await(api.StateMaster, takeover+time.Second)
	if a.holds() != 4 {
		t.Errorf("holds %d addresses", a.holds())
	}
}

func TestCtl(t *testing.T) {
	t.Parallel()
	_, a, b := run(t)
	if out, code := a.ctl("demote", "gate", "30", "for", "a", "reason"); code != 0 {
		t.Fatalf("demote: %d %s", code, out)
	}
	out, code := a.ctl("show")
	if code != 0 || !strings.Contains(out, "group gate (inside, outside): MASTER") || !strings.Contains(out,
		"demoted by 30: operator (for a reason)") || !strings.Contains(out, "priority 170") {
		t.Errorf("show: %d\n%s", code, out)
	}
	if out, code := a.ctl("undemote", "gate"); code != 0 {
		t.Errorf("undemote: %d %s", code, out)
	}
	if _, code := a.ctl("announce"); code != 0 {
		t.Error("announce failed")
	}
	if out, code := b.ctl("resign", "gate"); code != 1 || !strings.Contains(out, "not MASTER of gate; it hears the MASTER as ") {
		t.Errorf("resign of a backup: %d %s", code, out)
	}
	if _, code := b.ctl("resign", "nosuch"); code != 1 {
		t.Error("resign of an unknown group")
	}
	if _, code := b.ctl("dance"); code != 2 {
		t.Error("unknown command")
	}
	if out, code := a.ctl("resign", "gate"); code != 0 {
		t.Errorf("resign: %d %s", code, out)
	}
	b.await(api.StateMaster, patience)
	b.d.Kill()
	if _, code := b.ctl("show"); code != 3 {
		t.Errorf("show without carpd: %d", code)
	}
}
