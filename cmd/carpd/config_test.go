package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp"
	"sasyncd/carp/engine"
	"sasyncd/cmd/internal/conf"
)

func TestEngineConfig(t *testing.T) {
	c, err := conf.ParseCarpd("carpd.conf", []byte(`
group ipsec { preempt no  demote-at-start 2  start-hold 5s  require sasyncd  alone after 10s  prepare-timeout 3s  when-split prefer-traffic }
group free { preempt yes  alone after never }
vrrp in { carpdev eth1  vrid 10  priority 200  interval 100ms  address 10.1.0.1/24  address fd00::1/64  group ipsec }
vrrp old { carpdev eth0  version 2  vrid 7  pass "geheim"  address 192.0.2.1/32  unicast { 192.0.2.3 }  group free }
`))
	if err != nil {
		t.Fatal(err)
	}
	got := engineConfig(c)
	want := engine.Config{
		Groups: []carp.GroupConfig{
			{Name: "ipsec", DemoteAtStart: 2, StartHold: 5 * time.Second, Require: []string{"sasyncd"}, AloneAfter: 10 * time.Second, PrepareTimeout: 3 * time.Second},
			{Name: "free", Preempt: true, AloneAfter: -1, PrepareTimeout: 2 * time.Second},
		},
		Routers: []engine.Router{
			{
				Instance: "in", Group: "ipsec", Device: "eth1", Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: 10, Priority: 200, Interval: 100 * time.Millisecond},
				VIPs: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
			},
			{
				Instance: "in", Group: "ipsec", Device: "eth1", Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: 10, Priority: 200, Interval: 100 * time.Millisecond},
				VIPs: []netip.Addr{netip.MustParseAddr("fe80::200:5eff:fe00:20a"), netip.MustParseAddr("fd00::1")},
			},
			{
				Instance: "old", Group: "free", Device: "eth0", Machine: carp.RouterConfig{Proto: carp.VRRP2, ID: 7, Priority: 100, Interval: time.Second},
				VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Peers: []netip.Addr{netip.MustParseAddr("192.0.2.3")}, Auth: "geheim",
			},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
