// Package shipped tests that what is installed beside the programs (units, man
// pages, examples) agrees with the code. It has no code of its own.
package shipped

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sasyncd/cmd/internal/conf"
	"sasyncd/keying/ipsecconf"
)

const deploy = "../../../deploy"

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{deploy}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sasyncd(t *testing.T, path ...string) *conf.Sasyncd {
	t.Helper()
	c, err := conf.ParseSasyncd(filepath.Join(path...), []byte(read(t, path...)))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Warnings {
		t.Error(w)
	}
	return c
}

func carpd(t *testing.T, path ...string) *conf.Carpd {
	t.Helper()
	c, err := conf.ParseCarpd(filepath.Join(path...), []byte(read(t, path...)))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Warnings {
		t.Error(w)
	}
	return c
}

// TestExamples parses every example file.
func TestExamples(t *testing.T) {
	n := 0
	err := filepath.WalkDir(filepath.Join(deploy, "examples"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(deploy, path)
		if err != nil {
			return err
		}
		switch n++; d.Name() {
		case "sasyncd.conf":
			sasyncd(t, rel)
		case "carpd.conf":
			carpd(t, rel)
		case "keepalived.conf": // see TestKeepalived
		case "ipsec.conf":
			if !strings.HasPrefix(filepath.ToSlash(rel), "examples/static/") {
				ike(t, rel)
			} // else see TestStatic
		case "xfrm.sh", "vti.sh": // run by tests/routed
		default:
			if strings.HasPrefix(filepath.ToSlash(rel), "examples/cloud/") {
				return nil // see TestCloudMaster
			}
			ike(t, rel)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d examples, error %v", n, err)
	}
}

// ike looks at a file of another program, which runs with it in tests/ike, tests/shapes or tests/wireguard.
func ike(t *testing.T, rel string) {
	t.Helper()
	wants, ok := ikeFiles[filepath.ToSlash(rel)]
	if !ok {
		t.Errorf("%s: nothing says what it is", rel)
	}
	for _, want := range wants {
		if !strings.Contains(read(t, rel), want) {
			t.Errorf("%s lacks %q", rel, want)
		}
	}
}

// TestStatic checks that the two sides of the example with static keys belong
// together: the same SAs, and flows that are each other's reverse.
func TestStatic(t *testing.T) {
	load := func(side string) (sas, flows []string) {
		path := []string{"examples", "static", side, "ipsec.conf"}
		r, err := ipsecconf.Load(filepath.Join(path...), func(string) ([]byte, error) {
			return []byte(read(t, path...)),
				nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.SAs {
			text, _ := ipsecconf.SARule(e.SA)
			sas = append(sas, text)
		}
		for _, f := range r.Flows {
			text, _ := ipsecconf.FlowRule(f.Policies[0])
			if side == "remote" {
				text = strings.NewReplacer("flow esp in", "flow esp out", "flow esp out", "flow esp in",
					"local", "peer", "peer", "local").Replace(text)
			}
			text = strings.Join(slices.Sorted(strings.SplitSeq(text, " ")), " ") // peer and local in either order
			flows = append(flows, text)
		}
		slices.Sort(sas)
		slices.Sort(flows)
		return sas, flows
	}
	sas, flows := load("gateway")
	remoteSAs, remoteFlows := load("remote")
	if d := cmp.Diff(sas, remoteSAs); d != "" || len(sas) != 4 {
		t.Errorf("%d SAs, and the two sides differ (-gateway +remote):\n%s", len(sas), d)
	}
	if d := cmp.Diff(flows, remoteFlows); d != "" || len(flows) != 4 {
		t.Errorf("%d flows, and the two sides differ (-gateway +remote):\n%s", len(flows), d)
	}
	c := sasyncd(t, "examples", "static", "gateway", "sasyncd.conf")
	if g := c.Groups[0]; g.Control.Kind != conf.ControlStatic {
		t.Errorf("the example has control %s", g.Control.Kind)
	}
}

// ikeFiles are the configurations of IKE daemons and other programs, each with what it must have.
var ikeFiles = map[string][]string{
	"examples/strongswan/gateway/swanctl.conf": {"mobike = no", "unique = never", "local_addrs = 203.0.113.1",
		"reqid = 1", "start_action = none"},
	"examples/strongswan/gateway/ha.conf":         {"monitor = no", "segment_count = 1", "fifo_interface = yes"},
	"examples/strongswan/gateway/strongswan.conf": {"install_routes = no", "spi_min", "spi_max"},
	"examples/strongswan/remote/swanctl.conf":     {"mobike = no", "unique = replace", "remote_addrs = 203.0.113.1"},
	"examples/libreswan/gateway/ipsec.conf": {"mobike=no", "initial-contact=no", "auto=add", "left=203.0.113.1",
		"reqid=1"},
	"examples/libreswan/gateway/ipsec.secrets": {"PSK"},
	"examples/libreswan/remote/swanctl.conf":   {"mobike = no", "unique = replace", "remote_addrs = 203.0.113.1"},
	"examples/openiked/gateway/iked.conf":      {" active ", "local 203.0.113.1"},
	"examples/route-based/swanctl.conf": {"mobike = no", "unique = never", "local_addrs = 203.0.113.1",
		"reqid = 1", "start_action = none", "if_id_in = 42", "if_id_out = 42"},
	"examples/route-based/25-ipsec1.netdev": {"Kind=xfrm", "InterfaceId=42"},
	"examples/route-based/25-ipsec1.network": {"ActivationPolicy=always-up", "LinkLocalAddressing=no",
		"ConfigureWithoutCarrier=yes", "Type=blackhole"},
	"examples/conntrackd/notify-ipsec": {"#!/bin/sh", "case $3 in", "MASTER)", "-f internal", "-R", "-B",
		"BACKUP)", "-n"},
	"examples/conntrackd/conntrackd.conf": {"DisableExternalCache yes", "StartupResync yes",
		"IPv4_address 203.0.113.1"},
	"examples/openiked/remote/swanctl.conf": {"mobike = no", "unique = replace", "remote_addrs = 203.0.113.1"},
	"examples/ikev1/gateway/swanctl.conf": {"version = 1", "unique = never", "local_addrs = 203.0.113.1",
		"reqid = 1", "start_action = none"},
	"examples/ikev1/gateway/ipsec.conf": {"ikev1-policy=accept", "ikev2=no", "initial-contact=no", "auto=add",
		"left=203.0.113.1", "reqid=1"},
	"examples/ikev1/remote/swanctl.conf": {"version = 1", "unique = replace", "remote_addrs = 203.0.113.1",
		"dpd_timeout"},
	"examples/gre/gateway/gre.batch": {"local 203.0.113.1 ", "action block", "blackhole"},
	"examples/gre/gateway/frr.conf": {"bgp graceful-restart", "bgp graceful-restart preserve-fw-state",
		"neighbor 10.255.0.2"},
	"examples/gre/remote/gre.batch": {"remote 203.0.113.1 ", "action block", "blackhole"},
	"examples/wireguard/gateway/wg0.conf": {"Endpoint = 198.51.100.1:51820", "PersistentKeepalive",
		"ListenPort = 51820"},
	"examples/wireguard/gateway/wireguard.batch": {"blackhole 10.2.0.0/24"},
	"examples/wireguard/gateway/wireguard.nft":   {"udp sport 51820 ip saddr != 203.0.113.1 drop"},
	"examples/wireguard/gateway/notify-vpn": {"#!/bin/sh", "case $3 in", "MASTER)", "src 203.0.113.1",
		"wg0 down"},
	"examples/wireguard/remote/wg0.conf": {"Endpoint = 203.0.113.1:51820", "PersistentKeepalive"},
	"examples/fencing/fence-ipsec":       {"#!/bin/sh", "power off", "power status"},
	"examples/tracking/check-ipsec":      {"#!/bin/sh", "ip route show default"},
	"examples/gre/remote/frr.conf": {"bgp graceful-restart", "bgp graceful-restart preserve-fw-state",
		"neighbor 10.255.0.1"},
}

// TestPair checks that the two gateways of the example belong together.
func TestPair(t *testing.T) {
	const dir = "examples/pair"
	s1, s2 := sasyncd(t, dir, "gw1/sasyncd.conf"), sasyncd(t, dir, "gw2/sasyncd.conf")
	for _, pair := range [][2]*conf.Sasyncd{{s1, s2}, {s2, s1}} {
		var listens, dials []string
		for _, l := range pair[0].Listen {
			listens = append(listens, l.Addr.String())
		}
		for _, h := range pair[1].Peers[0].Hosts {
			dials = append(dials, h.String())
		}
		if diff := cmp.Diff(listens, dials); diff != "" {
			t.Errorf("%s listens elsewhere than its peer dials (-listens +dials):\n%s", pair[0].File, diff)
		}
	}
	c1, c2 := carpd(t, dir, "gw1/carpd.conf"), carpd(t, dir, "gw2/carpd.conf")
	for i := range c1.Instances {
		a, b := c1.Instances[i].VRRP, c2.Instances[i].VRRP
		if a.Priority <= b.Priority {
			t.Errorf("instance %s: priorities are %d and %d, want the first to win", c1.Instances[i].Name, a.Priority,
				b.Priority)
		}
		b.Priority = a.Priority
	}
	var p1, p2 strings.Builder
	if err := c1.Print(&p1); err != nil {
		t.Fatal(err)
	}
	if err := c2.Print(&p2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p1.String(), p2.String()); diff != "" {
		t.Errorf("the elections differ in more than their priority:\n%s", diff)
	}
	for _, g := range s1.Groups {
		if !strings.Contains(p1.String(), "vrrp "+g.Interface+" {") {
			t.Errorf("sasyncd follows %s, which carpd does not have", g.Interface)
		}
	}
}

// TestKeepalived checks that keepalived's files and ours speak of the same fifo,
// group and addresses, and that the two gateways belong together.
func TestKeepalived(t *testing.T) {
	var elections []string
	for i, gw := range []string{"gw1", "gw2"} {
		dir := "examples/keepalived/" + gw
		c := sasyncd(t, dir, "sasyncd.conf")
		k := read(t, dir, "keepalived.conf")
		if c.Tracker.Kind != conf.TrackKeepalived || !c.Fence || len(c.Groups) != 1 {
			t.Fatalf("%s: tracker %s, fence %v, %d groups", dir, c.Tracker.Kind, c.Fence, len(c.Groups))
		}
		for _, want := range []string{"vrrp_notify_fifo " + c.Tracker.Path, "vrrp_sync_group " + c.Groups[0].Interface +
			" {"} {
			if !strings.Contains(k, want) {
				t.Errorf("%s/keepalived.conf lacks %q", dir, want)
			}
		}
		moved := 0
		for _, a := range c.Groups[0].VIPs {
			if !strings.Contains(k, fmt.Sprintf("\t\t%s/%d\n", a, a.BitLen())) {
				t.Errorf("%s/keepalived.conf does not move %s", dir, a)
			}
			moved++
		}
		if n := strings.Count(k, "/32\n") + strings.Count(k, "/128\n"); n != moved {
			t.Errorf("%s/keepalived.conf moves %d addresses, sasyncd.conf names %d", dir, n, moved)
		}
		// What is the gateway's own, made the same.
		k = strings.ReplaceAll(k, gw, "gw")
		k = strings.ReplaceAll(k, fmt.Sprintf("gateway %d", i+1), "gateway")
		k = strings.ReplaceAll(k, fmt.Sprintf("priority %d", 200-50*i), "priority")
		elections = append(elections, k)
	}
	if diff := cmp.Diff(elections[0], elections[1]); diff != "" {
		t.Errorf("the elections differ in more than their priority:\n%s", diff)
	}
}
