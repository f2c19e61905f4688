package drills

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/leaks"
)

// A standby's kernel has what the master's has, and its outbound counters are
// ahead by the margin.
func TestStandbyIsComplete(t *testing.T) {
	p, gw1, gw2 := started(t)
	requireLittle(t, gw1)
	m, _ := traffic(t, p)
	for range 3 {
		flowing(t, m, rate/2)
		// The standby first: what it read is older than what it is compared with.
		standby := tables(t, gw2)
		master := tables(t, gw1)
		requireEqual(t, master, standby, "gw1", "gw2")
		for _, tn := range p.Tunnels {
			if s, m := standby.Sent[tn.SPIOut], master.Sent[tn.SPIOut]; s <= m {
				t.Errorf("SA %#x: gw2's counter is %d, gw1 has sent %d already", tn.SPIOut, s, m)
			}
		}
	}
	m.Stop()
	final := tables(t, gw1)
	margin := map[uint32]uint64{p.Tunnels[0].SPIOut: sadb.DefaultMargin().Legacy,
		p.Tunnels[1].SPIOut: sadb.DefaultMargin().ESN}
	lab.Eventually(t, limit, "gw2's counters to be ahead by the margin", func() bool {
		now := tables(t, gw2)
		for spi, lead := range margin {
			if now.Sent[spi] < final.Sent[spi]+lead {
				return false
			}
		}
		return true
	})
	for spi := range margin {
		if final.Sent[spi] == 0 {
			t.Errorf("gw1 has sent nothing through SA %#x", spi)
		}
	}
}

// What a backup is asked to forward from a protected network goes nowhere: the
// SAs are the master's to use, and without them it would be plaintext.
func TestBackupIsSilent(t *testing.T) {
	p, _, gw2 := started(t)
	wan := capture.Start(t, capture.Config{Ports: []*lab.Port{gw2.WAN}, Inner: lab.Inner()})
	var asked [2]atomic.Int64 // IPv4, IPv6: packets of h1 for h2 that gw2 gets
	capture.Start(t, capture.Config{Ports: p.H1.Ports(), Watch: func(pk *capture.Packet) {
		if !bytes.Equal(pk.Frame[:6], gw2.LAN.MAC) {
			return
		}
		switch pk.Dst {
		case lab.H2Addr:
			asked[0].Add(1)
		case lab.H2Addr6:
			asked[1].Add(1)
		}
	}})
	p.H1.IP("route add "+lab.H2Addr.String()+"/32 via "+gw2.InAddr.String(),
		"route add "+lab.H2Addr6.String()+"/128 via "+gw2.InAddr6.String()+" dev eth0")
	stray := meter.Start(t,
		meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: rate},
		meter.Config{From: p.H1, To: p.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7001, Rate: rate})
	lab.Eventually(t, limit, "gw2 to be asked to forward 200 packets of each family", func() bool {
		return asked[0].Load() >= 200 && asked[1].Load() >= 200
	})
	stray.Stop()
	if n := stray.Total(); n.Lost != n.Sent {
		t.Errorf("%v: all should be lost", n)
	}
	for _, vip := range []netip.Addr{lab.VIPOut, lab.VIPOut6} {
		if leaks.SendIKE(t, gw2.Node, vip) == nil {
			t.Errorf("gw2, a backup, can send from port 500 of %v", vip)
		}
	}
	wan.Stop()
	n := wan.Between(time.Unix(0, 0), time.Now(), gw2.WAN)
	_, examples := wan.Plaintext()
	if n.ESP != 0 || n.Plaintext != 0 {
		t.Errorf("gw2, a backup, sent %d ESP packets and %d in plaintext: %v", n.ESP, n.Plaintext, examples)
	}

	// The master's tunnels have not suffered.
	p.H1.IP("route del "+lab.H2Addr.String()+"/32", "route del "+lab.H2Addr6.String()+"/128")
	m, c := traffic(t, p)
	flowing(t, m, rate)
	m.Stop()
	if r := m.Total(); r.Lost != 0 {
		t.Errorf("%v", r)
	}
	c.RequireClean()
	requireNothingRefused(t, p)
}

// A gateway whose cables went dead while it was MASTER has packets waiting for
// neighbours. When the cables come back another is MASTER, and they must not leave.
func TestReturningMasterSendsNothingOld(t *testing.T) {
	p, gw1, gw2 := started(t)
	gw1.Off()
	for _, vip := range []netip.Addr{lab.VIPOut, lab.VIPOut6} {
		if err := leaks.SendIKE(t, gw1.Node, vip); err != nil {
			t.Fatalf("gw1 cannot even try to send from %v: %v", vip, err)
		}
	}
	var old atomic.Int64
	c := capture.Start(t, capture.Config{Ports: []*lab.Port{gw1.WAN}, Inner: lab.Inner(),
		Watch: func(pk *capture.Packet) {
			if pk.Src == lab.VIPOut || pk.Src == lab.VIPOut6 {
				old.Add(1)
			}
		}})
	gw1.Return()
	p.WaitFit(gw2)
	c.Stop()
	if n := old.Load(); n != 0 {
		t.Errorf("gw1 sent %d packets from virtual addresses that gw2 has", n)
	}
	if n, examples := c.Plaintext(); n != 0 {
		t.Errorf("gw1 sent %d packets in plaintext: %v", n, examples)
	}
}

// The addresses that a backup has of its own stay reachable from behind the
// tunnels, through the master.
func TestBackupAnswersFromRemoteSite(t *testing.T) {
	p, gw1, gw2 := started(t)
	c := capture.Start(t, capture.Config{Ports: p.WANPorts(), Inner: lab.Inner()})
	reachable := func() {
		t.Helper()
		for _, dst := range []netip.Addr{gw1.InAddr, gw1.InAddr6, gw2.InAddr, gw2.InAddr6} {
			if err := p.H2.Ping(dst, limit); err != nil {
				t.Error(err)
			}
		}
	}
	reachable()
	// And with the roles the other way round.
	gw1.Resign()
	p.WaitFit(gw2)
	reachable()
	c.RequireClean()
	for _, m := range p.Members {
		tb := tables(t, m)
		if master := m == gw2; master != (len(tb.Bypasses) == 0) {
			t.Errorf("%s, master %v, has %d bypass policies: %v", m.Name, master, len(tb.Bypasses), tb.Bypasses)
		}
	}
}
