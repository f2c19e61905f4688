package harness_test

import (
	"testing"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// tunnelled is a standard lab with one gateway that holds the VIPs and static
// tunnels to rgw.
func tunnelled(t *testing.T) (*lab.Standard, *lab.Gateway) {
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
func flows(t *testing.T, s *lab.Standard, rate int) *meter.Meter {
	t.Helper()
	cfgs := meter.Both(meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: 7000, Rate: rate})
	cfgs = append(cfgs, meter.Both(meter.Config{From: s.H1, To: s.H2, Src: lab.H1Addr6, Dst: lab.H2Addr6, Port: 7002, Rate: rate})...)
	return meter.Start(t, cfgs...)
}

func TestTrafficGoesThroughESP(t *testing.T) {
	s, gw := tunnelled(t)
	c := capture.Start(t, capture.Config{Ports: s.WANPorts(), Inner: lab.Inner()})
	m := flows(t, s, 1000)
	x := meter.StartTransfer(t, s.H1, s.H2, lab.H1Addr, lab.H2Addr, 8000)
	lab.Eventually(t, 20*time.Second, "3000 packets on every flow", func() bool { return m.Received() >= 3000 })
	if err := x.Finish(10 * time.Second); err != nil {
		t.Error(err)
	}
	sent := 0
	m.Stop()
	for _, f := range m.Flows {
		r := f.Total()
		t.Log(r)
		sent += r.Sent
		if r.Lost != 0 || r.Duplicate != 0 {
			t.Errorf("lost %d, duplicate %d packets in an undisturbed network", r.Lost, r.Duplicate)
		}
	}
	c.RequireClean()
	total := 0
	for _, sa := range c.SAs() {
		t.Logf("%+v", sa)
		total += sa.Packets
	}
	if len(c.SAs()) != 4 {
		t.Errorf("captured %d SAs, want one per direction and family", len(c.SAs()))
	}
	if total < sent {
		t.Errorf("captured %d ESP packets for %d sent", total, sent)
	}
	for _, nd := range []*lab.Node{gw.Node, s.RGW} {
		if st := nd.XfrmStat(); len(st) != 0 {
			t.Errorf("xfrm errors on %s: %v", nd.Name, st)
		}
	}
}
