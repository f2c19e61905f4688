package drills

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/leaks"
	"sasyncd/tests/scenario"
)

// A MASTER has no policies while its sasyncd is away: nobody puts them back. Hosts go on
// sending. Each test is the same history with another guard.

// The control: without a guard the history does send in plaintext.
func TestLeaksWithoutGuard(t *testing.T) {
	p, c := leakPair(t, "guard no\n")
	gw1 := p.Members[0]
	gw1.Sasyncd.Kill()
	gw1.Run("ip xfrm policy flush")
	lab.Eventually(t, limit, "plaintext of both families", func() bool {
		_, examples := c.Plaintext()
		all := strings.Join(examples, "\n")
		return strings.Contains(all, "10.1.0.10 > 10.2.0.10") && strings.Contains(all, "fd00:1::10 > fd00:2::10")
	})
}

func TestLeaksRoutes(t *testing.T) { noLeaks(t, "routes") }
func TestLeaksTable(t *testing.T)  { noLeaks(t, "nftables") }
func TestLeaksBoth(t *testing.T)   { noLeaks(t, "yes") }

// leakPair returns a pair under traffic, gw1 MASTER, whose MASTER waits for its sasyncd.
func leakPair(t *testing.T, extra string) (*scenario.Pair, *capture.Capture) {
	t.Helper()
	p := scenario.NewPair(t)
	p.SasyncdExtra = extra
	p.AloneAfter = 10 * time.Second
	p.Start()
	m, c := traffic(t, p)
	flowing(t, m, rate)
	t.Cleanup(m.Stop)
	return p, c
}

func noLeaks(t *testing.T, guard string) {
	t.Helper()
	p, c := leakPair(t, "guard "+guard+"\n")
	gw1, gw2 := p.Members[0], p.Members[1]
	for _, g := range p.Members {
		lab.Eventually(t, limit, g.Name+" to guard what it has policies for", func() bool {
			var s struct{ Selectors, Remembered int }
			err := scenario.Ask(g.Socket(), "guard", &s)
			return err == nil && s.Selectors == len(p.Tunnels) && s.Remembered == 0
		})
	}
	silent := func(what string) {
		t.Helper()
		was := leaks.Stopped(t, gw1.Node)
		lab.Eventually(t, limit, "the guard to stop packets: "+what, func() bool {
			time.Sleep(20 * time.Millisecond)
			return leaks.Stopped(t, gw1.Node) > was+rate
		})
	}

	// While sasyncd runs it puts the policies back at once.
	gw1.Run("ip xfrm policy flush")
	p.WaitFit(gw1)

	gw1.Sasyncd.Kill()
	gw1.Run("ip xfrm policy flush")
	silent("sasyncd is away")
	gw1.Run("ip xfrm state flush")
	silent("the SAs have gone too")
	if guard != "nftables" {
		gw1.Run("nft flush ruleset")
		silent("somebody flushed nf_tables")
	}
	gw1.Off()
	gw2.WaitRole("MASTER")

	// A machine that boots has neither policies nor walls. What was kept is loaded before
	// the cables are plugged in.
	bin, err := harness.Binary("sasyncd")
	if err != nil {
		t.Fatal(err)
	}
	run := bin + " -c " + gw1.Dir() + "/sasyncd.conf "
	gw1.Run(run + "guard-remove")
	if n := leaks.Stopped(t, gw1.Node); n != 0 {
		t.Fatalf("the guard is still there: it has stopped %d packets", n)
	}
	gw1.Run(run + "guard-load")
	gw1.PowerOn()
	for _, way := range [][2]netip.Addr{{gw1.InAddr, lab.H2Addr}, {gw1.InAddr6, lab.H2Addr6}} {
		was := leaks.Stopped(t, gw1.Node)
		sendOnce(t, gw1, way[0], way[1])
		if leaks.Stopped(t, gw1.Node) == was {
			t.Errorf("a gateway that has booted sends from %v to %v, and no guard stops it", way[0], way[1])
		}
	}
	gw1.StartDaemons()
	p.WaitFit(gw2)

	gw2.Resign()
	p.WaitFit(gw1)
	c.RequireClean()
}

// sendOnce sends a datagram from an address of a gateway. The guard may have the kernel
// refuse it.
func sendOnce(t *testing.T, g *scenario.Member, from, to netip.Addr) {
	t.Helper()
	err := g.Do(func() error {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("in plaintext"))
		return err
	})
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatalf("send from %v to %v: %v", from, to, err)
	}
}
