package conf

import (
	"strings"
	"testing"
)

// rule is a piece of a configuration and what is said of it: a part of the error, or of
// the warning behind "warning: ", or nothing.
type rule struct{ text, want string }

func checkRules(t *testing.T, name string, rules []rule, whole func(text string) string) {
	t.Helper()
	for _, r := range rules {
		_, warnings, err := parseAny(name, []byte(whole(r.text)), true)
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, w := range warnings {
			said += "warning: " + w.Error()
		}
		want, kind := r.want, ""
		if want, kind = strings.TrimPrefix(r.want, "warning: "), "error"; want != r.want {
			kind = "warning"
		}
		switch {
		case r.want == "" && said != "":
			t.Errorf("%q: %s", r.text, said)
		case r.want != "" && (!strings.Contains(said, want) || (err == nil) != (kind == "warning")):
			t.Errorf("%q: %q, want the %s %q", r.text, said, kind, want)
		}
	}
}

// TestSasyncdRules: each rule of sasyncd.conf at its edge, on both sides of it.
func TestSasyncdRules(t *testing.T) {
	const key = "sharedkey 0x349fec85c11f6b658d5c457d4668e035f11dfdccb849d5053a8763787b74db70\n"
	checkRules(t, "sasyncd.conf", []rule{
		{"peer 10.0.0.2", ""},
		{"peer 10.0.0.2 port 1", ""}, {"peer 10.0.0.2 port 0", "port 0 is out of range"},
		{"peer 10.0.0.2 port 65535", ""}, {"peer 10.0.0.2 port 65536", "port 65536 is out of range"},
		{"peer 10.0.0.2 port 99999999999999999999", "is out of range"}, {"peer 10.0.0.2 port -1", "is not a number"},
		{"peer gw2.example.org.", ""}, {"peer gw_2-a.example", ""}, {"peer 10.0.0", "neither an address nor a host name"},
		{"peer -gw.example", "neither"}, {"peer gw-.example", "neither"}, {"peer gw..example", "neither"},
		{"peer gw.example.42", "neither"}, {"peer gw!", "neither"}, {"peer .", "neither"},
		{"peer " + strings.Repeat("a", 63) + ".b", ""}, {"peer " + strings.Repeat("a", 64) + ".b", "neither"},
		{"peer " + strings.Repeat("a.", 126) + "b", ""}, {"peer " + strings.Repeat("a.", 127) + "b", "neither"},
		{"peer fe80::2%eth0", ""}, {"peer fe80::2", "lacks its interface"}, {"peer fe80::2%a/b", "neither"},
		{"peer 0.0.0.0", "cannot be a peer"}, {"peer ff02::1%eth0", "cannot be a peer"}, {"peer 169.254.0.2", ""},
		{"peer ::ffff:10.0.0.2", "in IPv6 form"},
		{"peer 10.0.0.2 10.0.0.3 10.0.0.2", "given twice on one line"},
		{"peer 10.0.0.2\npeer 10.0.0.3 10.0.0.2", "is already at line 2"},
		{"peer 10.0.0.2\nlisten on 10.0.0.2", "is this gateway itself"},
		{"peer 10.0.0.2 port 501\nlisten on 10.0.0.2", ""}, // two on one machine
		{"peer discover 10.0.0.2\nlisten on 10.0.0.2", ""},
		{"peer discover", ""}, {"peer \"discover\" 10.0.0.2", ""},
		{"peer discover 10.0.0.2\nmode skipslave", "does not go with mode skipslave"},
		{"listen on 10.0.0.1\npeer 10.0.0.2", ""}, {"listen on 224.0.0.1\npeer 10.0.0.2", "cannot be listened on"},
		{"listen on fe80::1%eth0\npeer 10.0.0.2", ""}, {"listen on fe80::1::\npeer 10.0.0.2", "is not an address"},
		{"listen on eth0 inet port 501\nlisten on eth0 inet6 port 501\npeer 10.0.0.2", ""},
		{"listen on eth0\nlisten on eth0 inet\npeer 10.0.0.2", "already at line 2"},
		{"listen on eth0 inet\nlisten on eth0\npeer 10.0.0.2", "already at line 2"},
		{"listen on eth0 inet\nlisten on eth0 inet\npeer 10.0.0.2", "already at line 2"},
		{"listen on eth0 port 501\nlisten on eth0 port 502\npeer 10.0.0.2", ""},
		{"listen on 10.0.0.1 inet6\npeer 10.0.0.2", "is not an address of family inet6"},
		{"listen on fd00::1 inet\npeer 10.0.0.2", "is not an address of family inet"},
		{"listen on fd00::1 inet6\npeer 10.0.0.2", ""}, {"listen on a-name-of-16-let\npeer 10.0.0.2", "neither"},
		{"replay interval 50ms\npeer 10.0.0.2", ""}, {"replay interval 49ms\npeer 10.0.0.2", "out of range"},
		{"replay interval 1m\npeer 10.0.0.2", ""}, {"replay interval 60001ms\npeer 10.0.0.2", "out of range"},
		{"replay interval 50500us\npeer 10.0.0.2", "is too fine"}, {"replay interval 5\npeer 10.0.0.2", "lacks a unit"},
		{"replay interval soon\npeer 10.0.0.2", "is not a time"},
		{"replay margin 1 1\npeer 10.0.0.2", ""}, {"replay margin 0 1\npeer 10.0.0.2", "out of range"},
		{"replay margin 1 0\npeer 10.0.0.2", "out of range"},
		{"replay margin 2147483647 2147483647\npeer 10.0.0.2", ""},
		{"replay margin 2147483648 1\npeer 10.0.0.2", "out of range"},
		{"replay margin 1 2147483648\npeer 10.0.0.2", "out of range"},
		{"socket relative\npeer 10.0.0.2", "is not an absolute path"}, {"socket /x\npeer 10.0.0.2", ""},
		{"metrics listen on 127.0.0.1 port 80\npeer 10.0.0.2", ""}, {"metrics on\npeer 10.0.0.2", `needs "listen" here`},
		{"metrics listen on 127.0.0.0/8\npeer 10.0.0.2", "is a prefix"},
		{"metrics listen on fe80::1%lo\npeer 10.0.0.2", "has a zone"},
		{"fence no\npeer 10.0.0.2", "warning: fence has no effect"},
		{"tracker link\nvip 192.0.2.1\nfence no\npeer 10.0.0.2", ""},
		{"tracker link\npeer 10.0.0.2", "has no vip"}, {"tracker link\nmode master\npeer 10.0.0.2", ""},
		{"tracker keepalived\npeer 10.0.0.2", "has no value"}, {"mode slave", "warning: there is no peer"},
		{strings.Repeat("sharedkey file \"/k\"\n", MaxKeys-1) + "peer 10.0.0.2", ""},
		{strings.Repeat("sharedkey file \"/k\"\n", MaxKeys) + "peer 10.0.0.2", "more than 8 keys"},
		{"sharedkey /23456789abcdefg\npeer 10.0.0.2", "warning: begins like the name of a file"},
		{"sharedkey <32-bytes>\npeer 10.0.0.2", "stands for a key that was left out"},
	}, func(text string) string { return "interface carp1\n" + text + "\n" + key })
	control := func(one, two string) string {
		return "interface a\ncontrol " + one + "\ninterface b\ncontrol " + two + "\npeer 10.0.0.2\n" + key
	}
	const shared = "would switch one IKE daemon"
	checkRules(t, "sasyncd.conf", []rule{
		{control("auto", "iked"), shared}, {control("isakmpd", "all"), shared}, {control("iked", "iked"), shared},
		{control("strongswan", "strongswan-ha"), shared}, {control("strongswan-ha", "strongswan"), shared},
		{control("strongswan", "iked"), ""}, {control("libreswan", "strongswan"), ""}, {control("iked", "isakmpd"), ""},
		{control("none", "auto"), ""}, {control("auto", "exec \"/x\""), ""}, {control("exec \"/x\"", "exec \"/x\""), ""},
		{control("static \"/x\"", "static \"/y\""), shared}, {control("static \"/x\"", "iked"), ""},
		{"interface a\ninterface a\ncontrol none\npeer 10.0.0.2\n" + key, "is already at line 1"},
		{"interface a\ncontrol none\ninterface b\npeer 10.0.0.2\n" + key, "but not behind interface b"},
		{"control iked\ninterface a\ncontrol none\ninterface b\npeer 10.0.0.2\n" + key, ""},
		{"control none\ninterface a\ngroup x\ninterface b\npeer 10.0.0.2\n" + key, "but not behind interface b"},
		{"control none\ngroup y\ninterface a\ngroup x\ninterface b\npeer 10.0.0.2\n" + key, ""},
		{"peer 10.0.0.2\n" + key, "there is no interface"}, {"peer 10.0.0.2\nmode slave\n" + key, ""},
		{"interface a\npeer 10.0.0.2\n", "there is no sharedkey"},
		{"interface a\npeer 10.0.0.2\\\nport 501\n" + key, ""},
		{"interface a \\\npeer 10.0.0.2\n" + key, ""}, {"interface a \\\r\npeer 10.0.0.2\r\n" + key, ""},
		{"interface \"a\npeer 10.0.0.2\n" + key, "has no end"}, {"interface a\x00\npeer 10.0.0.2\n" + key, "NUL byte"},
		{"interface \"a\x00\"\npeer 10.0.0.2\n" + key, "NUL byte"}, {"interface a # b\npeer 10.0.0.2\n" + key, ""},
		{"interface \"\"\npeer 10.0.0.2\n" + key, "is empty"}, {"interface ..\npeer 10.0.0.2\n" + key, "is not the name"},
	}, func(text string) string { return text })
}

// TestGroupsOfSasyncd: what stands before the first interface is for all that have
// nothing of their own.
func TestGroupsOfSasyncd(t *testing.T) {
	c, err := ParseSasyncd("sasyncd.conf", []byte("control none\ngroup all\ninterface a\ncontrol iked\ninterface b\n"+
		"group own\npeer 10.0.0.2\npeer 10.0.0.3 port 77\nlisten on eth0 port 55\nlisten on eth1 port 66\n"+
		"sharedkey file \"/k\"\nreplay inbound advance\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Groups[0], c.Groups[1]
	if a.Control.Kind != ControlIked || a.DemoteGroup != "all" || b.Control.Kind != ControlNone || b.DemoteGroup != "own" {
		t.Errorf("groups %+v", c.Groups)
	}
	if c.Peers[0].Port != 55 || c.Peers[1].Port != 77 || !c.InboundAdvance {
		t.Errorf("peers %+v, advance %v", c.Peers, c.InboundAdvance)
	}
}
