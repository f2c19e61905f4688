package lab_test

import (
	"testing"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestStandardBuilds(t *testing.T) {
	s := lab.NewStandard(t, 2)
	s.Gateways[0].SetVIPs()
	tun := lab.Tunnels()
	lab.Install(s.Gateways[0].Node, tun)
	lab.InstallRemote(s.RGW, tun)
	t.Log(s.Gateways[0].Run("ip xfrm state"))
	t.Log(s.Gateways[0].Run("ip xfrm policy"))
	t.Log(s.H1.Run("ip route"))
	s.Gateways[0].WAN.Block(lab.Out)
	s.Gateways[0].WAN.Unblock(lab.Out)
	s.Gateways[0].WAN.Block(lab.In)
	s.Gateways[0].WAN.Unblock(lab.In)
	s.Gateways[0].WAN.Pull()
	t.Log(s.Gateways[0].Run("ip addr"))
	t.Log(s.Gateways[0].XfrmStat())
}
