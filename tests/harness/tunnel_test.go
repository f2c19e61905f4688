package harness_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// tunnelled is a standard lab with one gateway that holds the VIPs and static
// tunnels to rgw.
func tunnelled(t lab.T) (*lab.Standard, *lab.Gateway) {
	t.Helper()
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	gw.SetVIPs()
	tunnels := lab.Tunnels()
	lab.Install(gw.Node, tunnels)
	lab.InstallRemote(s.RGW, tunnels)
	return s, gw
}

// flows starts traffic between h1 and h2, both ways and both families.
func flows(t lab.T, s *lab.Standard, rate int) *meter.Meter {
	t.Helper()
	cfgs := meter.Both(meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: rate})
	cfgs = append(cfgs, meter.Both(meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7002,
		Rate: rate})...)
	return meter.Start(t, cfgs...)
}

func waitReceived(t lab.T, m *meter.Meter, n int) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, fmt.Sprintf("%d packets on every flow", n),
		func() bool { return m.Received() >= n })
}

func TestTrafficGoesThroughESP(t *testing.T) {
	s, gw := tunnelled(t)
	c := capture.Start(t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})
	m := flows(t, s, 500)
	x := meter.StartTransfer(t, s.H1, s.H2, lab.H1Addr, lab.H2Addr, 8000)
	waitReceived(t, m, 1000)
	if err := x.Finish(10 * time.Second); err != nil {
		t.Error(err)
	}
	if x.Bytes() == 0 {
		t.Error("the transfer carried nothing")
	}
	m.Stop()
	for _, f := range m.Flows {
		t.Log(f.Total())
	}
	if r := m.Total(); r.Lost != 0 || r.Duplicate != 0 {
		t.Errorf("lost %d, duplicate %d packets in an undisturbed network", r.Lost, r.Duplicate)
	}
	c.RequireClean()
	total := 0
	for _, sa := range c.SAs() {
		total += sa.Packets
		if sa.Reordered != 0 || sa.First != 1 || sa.Highest != uint64(sa.Packets) {
			t.Errorf("an SA's numbers do not run from 1 without a gap: %+v", sa)
		}
	}
	if len(c.SAs()) != 4 || total < m.Total().Sent {
		t.Errorf("captured %d packets of %d SAs, want 4 SAs and at least the %d packets sent", total, len(c.SAs()),
			m.Total().Sent)
	}
	for _, nd := range []*lab.Node{gw.Node, s.RGW} {
		if st := nd.XfrmStat(); len(st) != 0 {
			t.Errorf("xfrm errors on %s: %v", nd.Name, st)
		}
	}
}

// The controls below show that the detectors detect.

func TestPlaintextIsDetected(t *testing.T) {
	s, gw := tunnelled(t)
	c := capture.Start(t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})
	m := flows(t, s, 200)
	waitReceived(t, m, 50)
	c.RequireClean() // and stops
	c = capture.Start(t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})
	gw.Run("ip xfrm policy flush")
	lab.Eventually(t, 10*time.Second, "plaintext of both families", func() bool {
		_, examples := c.Plaintext()
		all := strings.Join(examples, "\n")
		return strings.Contains(all, "10.1.0.10 > 10.2.0.10") && strings.Contains(all, "fd00:1::10 > fd00:2::10")
	})
	if n := c.Between(time.Unix(0, 0), time.Now(), s.RGWPort).Plaintext; n != 0 {
		t.Errorf("%d plaintext packets are blamed on rgw, which sent none", n)
	}
}

func TestDuplicateIsDetected(t *testing.T) {
	s, gw := tunnelled(t)
	c := capture.Start(t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})
	m := flows(t, s, 200)
	waitReceived(t, m, 100)
	before := s.RGW.XfrmStat()
	// What a takeover without a margin does: the numbers start over. Removed
	// and added in one batch, the SA is never missing.
	out := lab.Tunnels()[1]
	state := ""
	for sa := range strings.SplitSeq(gw.Run("ip xfrm state"), "src ") {
		if strings.Contains(sa, fmt.Sprintf("spi 0x%08x", out.SPIOut)) {
			state = sa
		}
	}
	key := strings.Fields(state[strings.Index(state, "rfc4106"):])[1]
	ids := fmt.Sprintf("src %s dst %s proto esp spi %#x", out.Local, out.Remote, out.SPIOut)
	gw.IP("xfrm state del "+ids,
		fmt.Sprintf("xfrm state add %s reqid %d mode tunnel aead rfc4106(gcm(aes)) %s 128 replay-window 128 flag esn",
			ids, out.ReqID, key))
	lab.Eventually(t, 10*time.Second, "a duplicate", func() bool { return len(c.Duplicates()) > 0 })
	d := c.Duplicates()[0]
	if d.SPI != out.SPIOut || d.FirstFrom != "gw1" || d.ThenFrom != "gw1" {
		t.Errorf("duplicate is %v, want spi %#x, twice from gw1", d, out.SPIOut)
	}
	m.Stop()
	if lab.Refused(before, s.RGW.XfrmStat()) == 0 {
		t.Errorf("rgw refused nothing: %v", s.RGW.XfrmStat())
	}
}

func TestGapIsMeasured(t *testing.T) {
	s, gw := tunnelled(t)
	m := flows(t, s, 200)
	x := meter.StartTransfer(t, s.H1, s.H2, lab.H1Addr6, lab.H2Addr6, 8000)
	waitReceived(t, m, 100)
	start := time.Now()
	gw.WAN.Pull()
	pulled := time.Now()
	lab.Eventually(t, 5*time.Second, "700 ms of silence",
		func() bool { return time.Since(pulled) > 700*time.Millisecond })
	gw.WAN.Replug()
	replugged := time.Now()
	n := m.Received()
	waitReceived(t, m, n+100)
	if err := x.Finish(20 * time.Second); err != nil {
		t.Errorf("the transfer did not survive: %v", err)
	}
	m.Stop()
	for _, f := range m.Flows {
		r := f.Between(start, replugged)
		t.Log(r)
		down := replugged.Sub(pulled)
		// Two resolutions of slack; neighbour discovery after the cut may take a second more.
		if r.Gap < down-2*r.Stall-20*time.Millisecond || r.Gap > replugged.Sub(start)+1500*time.Millisecond {
			t.Errorf("%s: gap of %v for a cable that was out for %v", f.Name, r.Gap, down)
		}
		if r.GapAt.Before(start.Add(-100*time.Millisecond)) || r.GapAt.After(pulled.Add(100*time.Millisecond)) {
			t.Errorf("%s: gap began at %v, the cable was pulled at %v", f.Name, r.GapAt, pulled)
		}
		// Not from h1: the gateway keeps packets for a next hop that it cannot
		// resolve, and sends them when the cable is back.
		if want := int(down.Seconds() * 200); strings.HasPrefix(f.Name, "h2") && r.Lost < want-20 {
			t.Errorf("%s: lost %d packets in %v, want about %d", f.Name, r.Lost, down, want)
		}
	}
}

// A kernel gives a neighbour up after three seconds, and answers the packets that
// waited for it with ICMP errors in plaintext. A machine without power has none.
func TestPowerCutForgetsNeighbours(t *testing.T) {
	s, gw := tunnelled(t)
	m := flows(t, s, 200)
	waitReceived(t, m, 100)
	waits := func() bool { return strings.Contains(gw.Run("ip neigh"), lab.H1Addr.String()+" dev lan0 INCOMPLETE") }
	gw.LAN.Pull()
	lab.Eventually(t, 10*time.Second, "packets that wait for h1", waits)
	gw.PowerCut()
	m.Stop()
	gw.PowerOn()
	if waits() {
		t.Error("packets from before the power cut still wait for h1")
	}
}

func TestOneWayBlock(t *testing.T) {
	s, gw := tunnelled(t)
	m := flows(t, s, 200)
	waitReceived(t, m, 50)
	for _, way := range []lab.Way{lab.Out, lab.In} {
		gw.WAN.Block(way)
		start := time.Now()
		blocked, open := m.Flows[0], m.Flows[1] // h1>h2, h2>h1
		if way == lab.In {
			blocked, open = open, blocked
		}
		n := open.Received()
		lab.Eventually(t, 10*time.Second, "the open direction to flow on", func() bool {
			return open.Received() > n+
				100
		})
		end := time.Now()
		if r := open.Between(start, end.Add(-100*time.Millisecond)); r.Lost != 0 {
			t.Errorf("way %v blocked: the other way lost %v", way, r)
		}
		if s := blocked.Silence(); s < end.Sub(start)-100*time.Millisecond {
			t.Errorf("way %v blocked for %v, but a packet came %v ago", way, end.Sub(start), s)
		}
		gw.WAN.Unblock(way)
		n = blocked.Received()
		lab.Eventually(t, 10*time.Second, "traffic after unblocking", func() bool { return blocked.Received() > n+20 })
	}
}

func TestImpairmentDelaysAndLoses(t *testing.T) {
	s, _ := tunnelled(t)
	m := flows(t, s, 200)
	waitReceived(t, m, 50)
	s.RGWPort.Impair(30*time.Millisecond, 0, 20)
	start := time.Now()
	waitReceived(t, m, 400)
	end := time.Now()
	m.Stop()
	if r := m.Flows[0].Between(start, end); r.Lost < r.Sent/20 || r.Lost > r.Sent/2 {
		t.Errorf("20 %% loss towards rgw: %v", r)
	}
	if r := m.Flows[1].Between(start, end); r.Lost != 0 {
		t.Errorf("loss from rgw, where nothing was impaired: %v", r)
	}
}

func TestDaemonIsStoppedAndWatched(t *testing.T) {
	s := lab.NewStandard(t, 1)
	gw := s.Gateways[0]
	conf := gw.WriteFile("greeting", "hello from the node\n")
	d := gw.Exec("reader", shell("cat "+conf+"; ip -o link show lan0; exec sleep 1000"))
	d.WaitLog("hello from the node", 10*time.Second)
	d.WaitLog("lan0", 10*time.Second) // it is inside
	d.Signal(unix.SIGSTOP)
	d.Signal(unix.SIGCONT)
	if !d.Running() {
		t.Error("the daemon has ended")
	}
	if code := d.Term(10 * time.Second); code != -1 {
		t.Errorf("exit code %d of a process killed by a signal", code)
	}
	gw.PowerCut()
	if out := gw.Run("ip -o link show wan0"); !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("after a power cut wan0 is %s", out)
	}
	gw.PowerOn()
}
