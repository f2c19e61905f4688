package conf

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const authKeyHex = "0x349fec85c11f6b658d5c457d4668e035f11dfdccb849d5053a8763787b74db70"

func vrrp(text string) string {
	return "vrrp v { carpdev eth0; vrid 1; address 10.0.0.1; " + text + " }"
}

func carp(text string) string {
	return "carp c { carpdev eth0; vhid 1; address 10.0.0.1; " + text + " }"
}

func group(text string) string { return "group g { " + text + " }\n" + vrrp("group g") }

// TestCarpdRules: each rule of carpd.conf at its edge, on both sides of it.
func TestCarpdRules(t *testing.T) {
	const withKey = "; key 1 " + authKeyHex
	const out = "is out of range"
	const differ = "warning: after different times"
	two := func(a, b string) string {
		return "vrrp a { carpdev eth0; " + a + " }\nvrrp b { carpdev eth0; " + b + " }"
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "address 10.1.%d.%d; ", i/200, i%200+1)
		}
		return "vrrp v { carpdev eth0; vrid 1; " + b.String() + " }"
	}
	checkRules(t, "carpd.conf", []rule{
		{"", "warning: there is no instance"}, {vrrp(""), ""}, {carp("pass x"), ""}, {carp(""), "has no pass"},
		{"vrrp v { vrid 1; address 10.0.0.1 }", "has no carpdev"},
		{"vrrp v { carpdev e; address 10.0.0.1 }", "has no vrid"},
		{"carp v { carpdev e; address 10.0.0.1 }", "has no vhid"}, {"vrrp v { carpdev e; vrid 1 }", "has no address"},
		{many(255), ""}, {many(256), "more than 255 addresses"},
		{carp("pass " + strings.Repeat("x", 19)), ""},
		{carp("pass " + strings.Repeat("x", 20)), "a pass of 20 bytes"},
		{carp("carp-dialect freebsd; pass " + strings.Repeat("x", 20)), ""},
		{carp("carp-dialect freebsd; pass " + strings.Repeat("x", 21)), "a pass of 21 bytes"},
		{carp("pass x; advbase 0; advskew 1"), ""},
		{carp("pass x; advbase 0; carp-dialect freebsd"), "advbase 0 is unknown"},
		{carp("pass x; advbase 254; advskew 254"), ""}, {carp("pass x; advbase 255"), out},
		{carp("pass x; advskew 255"), out},
		{vrrp("priority 255"), ""}, {vrrp("priority 256"), out}, {vrrp("priority 0"), out}, {vrrp("priority 1"), ""},
		{vrrp("interval 10ms"), ""}, {vrrp("interval 9ms"), out}, {vrrp("interval 15ms"), "is too fine"},
		{vrrp("interval 40950ms"), ""}, {vrrp("interval 40960ms"), "is out of range for version 3"},
		{vrrp("version 2; interval 255s"), ""}, {vrrp("version 2; interval 256s"), out},
		{vrrp("version 2; interval 1500ms"), "is too fine for version 2"}, {vrrp("version 2"), ""},
		{vrrp("version 2; pass 12345678"), ""}, {vrrp("version 2; pass 123456789"), "too long for version 2"},
		{vrrp("pass 1"), "version 3 has no pass"}, {vrrp("version 2; checksum pseudo"), "checksum has no meaning"},
		{vrrp("version 2; address fd00::1"), "version 2 has no IPv6"},
		{vrrp("version 2" + withKey), "version 2 has no keys"},
		{vrrp("auth enforce"), "auth enforce needs a key"}, {vrrp("auth receive-only" + withKey), ""},
		{vrrp("key 255 " + authKeyHex), ""}, {vrrp("key 256 " + authKeyHex), out},
		{vrrp("key 1 " + authKeyHex[:64]), "a key of 31 bytes"}, {vrrp("key 1 0x" + strings.Repeat("1a2b", 32)), ""},
		{vrrp("key 1 0x" + strings.Repeat("1a2b", 32) + "1c"), "a key of 65 bytes"},
		{vrrp("key 1 " + authKeyHex[:65]), "half a byte"},
		{vrrp("key 1 " + authKeyHex + "; key 1 file \"/k\""), "already at"},
		{vrrp("unicast 10.0.0.2" + withKey), ""}, {vrrp("unicast { 10.0.0.2; 10.0.0.3 }" + withKey), ""},
		{vrrp("unicast 10.0.0.2"), "warning: has no key"},
		{vrrp("version 2; unicast 10.0.0.2"), "warning: has no key"},
		{vrrp("unicast 10.0.0.1" + withKey), "is a virtual address of this instance"},
		{vrrp("unicast fd00::2" + withKey), "has no IPv6 addresses"},
		{vrrp("address fd00::1; unicast 10.0.0.2" + withKey), "warning: so IPv6 is multicast"},
		{"vrrp v { carpdev eth0; vrid 1; address fd00::1; unicast 10.0.0.2" + withKey + " }", "has no IPv4 addresses"},
		{vrrp("address fd00::1; unicast { 10.0.0.2 fd00::2 }" + withKey), ""},
		{vrrp("unicast { 10.0.0.2 10.0.0.2 }" + withKey), "given twice"}, {vrrp("unicast { }" + withKey), "is empty"},
		{vrrp("unicast 224.0.0.1" + withKey), "cannot be used"},
		{vrrp("unicast 0.0.0.0" + withKey), "cannot be used"},
		{vrrp("unicast { 10.0.0.2 priority 5" + withKey), "has no end"},
		{vrrp("hops 1"), "hops has no meaning without unicast"}, {vrrp("hops 254; unicast 10.0.0.2" + withKey), ""},
		{vrrp("hops 255; unicast 10.0.0.2" + withKey), out}, {vrrp("address 10.0.0.1"), "given twice"},
		{vrrp("address 255.255.255.255"), "cannot be a virtual address"}, {vrrp("address 127.0.0.2"), "cannot be"},
		{vrrp("address 10.0.1.0/31"), "warning: becomes 10.0.1.0/32"},
		{vrrp("address 10.0.1.4/30"), "address of a network"},
		{vrrp("address 10.0.1.7/30"), "broadcast"}, {vrrp("address 10.0.1.6/30"), "warning: becomes"},
		{vrrp("address 10.0.1.6/32"), ""}, {vrrp("address fd00::/64"), "anycast"},
		{vrrp("address fd00::/127"), "warning: becomes"},
		{vrrp("accept no"), ""}, {vrrp("accept no; priority 255"), "warning: priority 255"},
		{"group carp { require sasyncd }\n" + vrrp("accept no"), "warning: also keeps out IKE and ESP"},

		{group("alone after 0s"), ""}, {group("alone after 24h"), ""}, {group("alone after 24h1ms"), out},
		{group("alone after never"), ""}, {group("preempt-delay 1h; start-hold 1h"), ""},
		{group("start-hold 61m"), out},
		{group("preempt-delay 61m"), out}, {group("prepare-timeout 10ms"), ""}, {group("prepare-timeout 9ms"), out},
		{group("prepare-timeout 1m"), ""}, {group("prepare-timeout 61s"), out}, {group("demote-at-start 255"), ""},
		{group("demote-at-start 256"), out}, {group("preempt yes; preempt no"), "is already given at line 1"},
		{group("when-split prefer-traffic"), "needs sasyncd"},
		{group("require sasyncd; when-split prefer-traffic"), ""},
		{group("when-split witness 192.0.2.9"), ""}, {group("when-split witness 192.0.2.9 fd00::9"), ""},
		{group("when-split witness 10.0.0.1"), "is a virtual address"},
		{group("when-split witness fe80::9"), "not reachable"},
		{group("when-split witness 127.0.0.9"), "not reachable"},
		{"group g { }\n" + vrrp(""), "warning: has no instance"},
		{"group " + strings.Repeat("g", 31) + " { }\n" + vrrp("group "+strings.Repeat("g", 31)), ""},
		{"group " + strings.Repeat("g", 32) + " { }", "too long for a name"},
		{"group \"a b\" { }", "is not the name"},
		{"group g/h { }", "is not the name"},
		{"group g { }\ngroup g { }\n" + vrrp("group g"), "already declared at line 1"},
		{vrrp("group cap"), "is not declared"}, {"group crap1 { }\n" + vrrp("group carp1"), "did you mean crap1"},

		{two("vrid 1; address 10.0.0.1", "vrid 2; address 10.0.0.2"), ""},
		{two("vrid 1; address 10.0.0.1", "vrid 1; address 10.0.0.2"), "is already vrid 1"},
		{two("vrid 1; address 10.0.0.1", "vrid 1; address fd00::2"), ""},
		{two("vrid 1; address fd00::1", "vrid 1; address fd00::2"), "is already vrid 1"},
		{two("vrid 1; address 10.0.0.1", "vrid 2; address 10.0.0.1"), "already belongs to instance a"},
		{two("vrid 1; address fe80::1", "vrid 2; address fe80::1"), "already belongs to instance a"},
		{"vrrp a { carpdev eth0; vrid 1; address fe80::1 }\nvrrp b { carpdev eth1; vrid 1; address fe80::1 }", ""},
		{"vrrp a { carpdev eth0; vrid 1; address 10.0.0.1 }\ncarp b { carpdev eth0; vhid 1; address fd00::1; pass x }",
			"is already vrid 1"},
		{two("vrid 1; address 10.0.0.1; interval 1s", "vrid 2; address 10.0.0.2; interval 1250ms"), ""},
		{two("vrid 1; address 10.0.0.1; interval 1s", "vrid 2; address 10.0.0.2; interval 1260ms"), differ},
		{two("vrid 1; address 10.0.0.1; interval 1260ms", "vrid 2; address 10.0.0.2; interval 1s"), differ},
		{"vrrp v { carpdev eth0; vrid 1; address 10.0.0.1 }\nvrrp v { carpdev eth1; vrid 1; address 10.0.0.2 }",
			"is already at line 1"},

		{"track link eth1\n" + vrrp(""), ""}, {"track link eth1 interval 1s\n" + vrrp(""), "is not a keyword"},
		{"track file /x demote 255\n" + vrrp(""), ""}, {"track file /x demote 0\n" + vrrp(""), out},
		{"track exec /x interval 100ms timeout 10ms\n" + vrrp(""), ""},
		{"track exec /x interval 99ms\n" + vrrp(""), out},
		{"track exec /x timeout 9ms\n" + vrrp(""), out}, {"track exec /x timeout 61s\n" + vrrp(""), out},
		{"track exec /x interval 61m\n" + vrrp(""), out}, {"track exec /x fail 3\n" + vrrp(""), "is not a keyword"},
		{"track address 192.0.2.9 fail 255\n" + vrrp(""), ""}, {"track ping 192.0.2.9 fail 0\n" + vrrp(""), out},
		{"track address 10.0.0.1\n" + vrrp(""), "is a virtual address of instance v"},
		{"track ping 192.0.2.9\ntrack address 192.0.2.9 demote 7\n" + vrrp(""), "already tracked at line 1"},
		{"track link e\ntrack link e group g\ngroup g { }\n" + vrrp("") + "\n" + vrrp2, ""},
		{"track link e demote 1 demote 2\n" + vrrp(""), "demote is given twice"},
		{"track link e group nobody\n" + vrrp(""), "group nobody is not declared"},
	}, func(text string) string { return text })
}

const vrrp2 = "vrrp w { carpdev eth1; vrid 1; address 10.0.0.9; group g }"

// TestCarpdDefaults: what depends on other statements.
func TestCarpdDefaults(t *testing.T) {
	c, err := ParseCarpd("carpd.conf", []byte("group a { require sasyncd }\ngroup b { require sasyncd fence; "+
		"demote-at-start 0 }\ngroup d { require fence }\n"+
		"vrrp one { carpdev e0; vrid 1; address 10.0.0.1; group a; version 2 }\n"+
		"vrrp two { carpdev e1; vrid 1; address 10.0.0.2; group b; key 1 "+authKeyHex+" }\n"+
		"vrrp six { carpdev e2; vrid 1; address 10.0.0.3; group d; key 1 "+authKeyHex+"; auth permissive }\n"+
		"track exec /x interval 300ms\ntrack address 192.0.2.9 interval 300ms group a\n"+
		"track address 192.0.2.8 interval 3s demote 9\ntrack file /f\n"))
	if err != nil {
		t.Fatal(err)
	}
	g := c.Groups
	if len(g) != 4 || g[3].Name != DefaultGroup || g[0].DemoteAtStart != 1 || g[1].DemoteAtStart != 0 ||
		g[2].DemoteAtStart != 0 || g[0].RequireFence || !g[1].RequireSasyncd || !g[1].RequireFence ||
		g[2].RequireSasyncd || !g[2].RequireFence {
		t.Errorf("groups %+v", g)
	}
	in := c.Instances
	if in[0].VRRP.Interval != time.Second || in[1].VRRP.Interval != 250*time.Millisecond || in[0].Auth != AuthNone ||
		in[1].Auth != AuthEnforce || in[2].Auth != AuthPermissive || in[0].Detection() != 3*time.Second {
		t.Errorf("instances %+v", in)
	}
	tr := c.Tracks
	if tr[0].Timeout != time.Second || tr[0].Fail != 0 || tr[0].Group != DefaultGroup || tr[0].Demote != 1 ||
		tr[1].Timeout != 300*time.Millisecond || tr[1].Fail != 3 || tr[1].Group != "a" || tr[2].Timeout != time.Second ||
		tr[2].Demote != 9 || tr[3].Interval != 0 || tr[3].Timeout != 0 {
		t.Errorf("tracks %+v", tr)
	}
}

// TestCARPRouters: members and times of a carp block by family.
func TestCARPRouters(t *testing.T) {
	c, err := ParseCarpd("carpd.conf", []byte("carp c { carpdev e0; vhid 7; address 10.0.0.1; address fd00::1; pass x; "+
		"carppeer { 10.0.0.2 fd00::2 fd00::3 }; advbase 0; advskew 64; hops 3; key 1 "+authKeyHex+" }"))
	if err != nil {
		t.Fatal(err)
	}
	rs := c.Instances[0].Routers()
	if len(rs) != 2 || rs[0].IPv6 || !rs[1].IPv6 || len(rs[0].Unicast) != 1 || len(rs[1].Unicast) != 2 ||
		rs[1].Unicast[1] != netip.MustParseAddr("fd00::3") || len(rs[1].Addresses) != 1 {
		t.Errorf("routers %+v", rs)
	}
	in := c.Instances[0]
	for skew, want := range map[uint8]time.Duration{64: 750 * time.Millisecond, 0: 3 * time.Second / 256} {
		in.CARP.AdvSkew = skew
		if got := in.Detection(); got != want {
			t.Errorf("detection with skew %d: %v, want %v", skew, got, want)
		}
	}
	if in.CARP.AdvBase = 2; in.Detection() != 6*time.Second {
		t.Errorf("detection %v, want 6s", in.Detection())
	}
}
