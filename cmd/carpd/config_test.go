package main

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sasyncd/carp"
	"sasyncd/carp/auth"
	"sasyncd/carp/engine"
	"sasyncd/carp/track"
	"sasyncd/cmd/internal/conf"
)

func TestEngineConfig(t *testing.T) {
	c, err := conf.ParseCarpd("carpd.conf", []byte(`
group ipsec { preempt no  demote-at-start 2  start-hold 5s  require sasyncd  alone after 10s  prepare-timeout 3s  when-split prefer-traffic }
group free { preempt yes  alone after never  when-split witness 192.0.2.254 2001:db8::fe }
group wary { preempt in-sync  preempt-delay 3s }
vrrp in { carpdev eth1  vrid 10  priority 200  interval 100ms  address 10.1.0.1/24  address fd00::1/64  group ipsec }
vrrp old { carpdev eth0  version 2  vrid 7  pass "geheim"  address 192.0.2.1/32  unicast { 192.0.2.3 }  group free }
carp carp4 { carpdev eth2  vhid 9  pass "love"  advbase 0  advskew 64  address 2001:db8::1/128  address 198.51.100.1/32
	carppeer 198.51.100.3  carp-dialect openbsd  preempt yes  group wary  auth permissive
	key 3 0123456789abcdef0123456789abcdef  key 4 0xfedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210 }
`))
	if err != nil {
		t.Fatal(err)
	}
	got := engineConfig(c)
	carpMachine := carp.CARPRouter(9, 0, 64, carp.OpenBSD)
	carpMachine.Preempt = carp.PreemptYes
	both := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("198.51.100.1")}
	policy := auth.Policy{Mode: auth.Permissive, Keys: []auth.Key{
		{ID: 3, Secret: []byte("0123456789abcdef0123456789abcdef")},
		{ID: 4, Secret: bytes.Repeat([]byte{0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}, 4)},
	}}
	want := engine.Config{
		Groups: []carp.GroupConfig{
			{Name: "ipsec", Preempt: carp.PreemptNo, PreferTraffic: true, DemoteAtStart: 2, StartHold: 5 * time.Second,
				Require: []string{"sasyncd"}, AloneAfter: 10 * time.Second, PrepareTimeout: 3 * time.Second},
			{Name: "free", Preempt: carp.PreemptYes, AloneAfter: -1, Witness: true, PrepareTimeout: 2 * time.Second},
			{Name: "wary", Preempt: carp.PreemptInSync, PreemptDelay: 3 * time.Second, AloneAfter: 10 * time.Second,
				PrepareTimeout: 2 * time.Second},
		},
		Routers: []engine.Router{
			{
				Instance: "in", Group: "ipsec", Device: "eth1", Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: 10,
					Priority: 200, Interval: 100 * time.Millisecond},
				VIPs: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
			},
			{
				Instance: "in", Group: "ipsec", Device: "eth1", Machine: carp.RouterConfig{Proto: carp.VRRP3, ID: 10,
					Priority: 200, Interval: 100 * time.Millisecond},
				VIPs: []netip.Addr{netip.MustParseAddr("fe80::200:5eff:fe00:20a"), netip.MustParseAddr("fd00::1")},
			},
			{
				Instance: "old", Group: "free", Device: "eth0", Machine: carp.RouterConfig{Proto: carp.VRRP2, ID: 7,
					Priority: 100, Interval: time.Second},
				VIPs:  []netip.Addr{netip.MustParseAddr("192.0.2.1")},
				Peers: []netip.Addr{netip.MustParseAddr("192.0.2.3")}, Auth: "geheim",
			},
			{
				Instance: "carp4", Group: "wary", Device: "eth2", Machine: carpMachine,
				VIPs:  []netip.Addr{netip.MustParseAddr("198.51.100.1")},
				Peers: []netip.Addr{netip.MustParseAddr("198.51.100.3")},
				Auth:  "love", Hashed: both, Trailer: policy,
			},
			{
				Instance: "carp4", Group: "wary", Device: "eth2", Machine: carpMachine,
				VIPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, Auth: "love", Hashed: both, Trailer: policy,
			},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	witnesses := []track.WitnessConfig{{Group: "free", Each: 500 * time.Millisecond, Lost: 4 * time.Second,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::fe")}}}
	if diff := cmp.Diff(witnesses, witnessConfig(c, got),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// All that a track says arrives at who watches.
func TestTrackConfig(t *testing.T) {
	c, err := conf.ParseCarpd("carpd.conf", []byte(`vrrp v { carpdev eth0 vrid 1 address 10.0.0.1 }
track ping 10.0.0.254 interval 100ms timeout 50ms fail 4 demote 5
track bfd fe80::fe interface eth0 source fe80::2 interval 50ms multiplier 4 demote 6
track exec "/bin/true" interval 2s
`))
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	want := []track.Config{
		{Kind: track.Address, Addr: a("10.0.0.254"), Group: "carp", Demote: 5, Interval: 100 * time.Millisecond,
			Timeout: 50 * time.Millisecond, Fail: 4},
		{Kind: track.BFD, Addr: a("fe80::fe"), Group: "carp", Demote: 6, Interval: 50 * time.Millisecond,
			Device: "eth0", Source: a("fe80::2"), Multiplier: 4},
		{Kind: track.Exec, Target: "/bin/true", Group: "carp", Demote: 1, Interval: 2 * time.Second,
			Timeout: time.Second},
	}
	if got := trackConfig(c.Tracks); !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
