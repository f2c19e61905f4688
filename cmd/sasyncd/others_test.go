package main

import (
	"net/netip"
	"testing"

	"sasyncd/sync/peer"
)

// TestOthers: a node that is among its own peers is no peer that is missing.
func TestOthers(t *testing.T) {
	at := netip.MustParseAddrPort
	own := map[netip.Addr]bool{netip.MustParseAddr("10.9.0.1"): true, netip.MustParseAddr("fe80::1"): true}
	list := others([]peer.Status{
		{Name: "self", Addrs: []netip.AddrPort{at("10.9.0.1:500"), at("[fe80::1%eth0]:500")}},
		{Name: "half", Addrs: []netip.AddrPort{at("10.9.0.1:500"), at("10.9.0.2:500")}},
		{Name: "connected", Addrs: []netip.AddrPort{at("10.9.0.1:500")}, Session: new(peer.Session)},
		{Name: "unresolved"},
		{Name: "other", Addrs: []netip.AddrPort{at("10.9.0.3:500")}},
	}, own)
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	if len(names) != 4 || names[0] != "half" || names[3] != "other" {
		t.Errorf("others are %v", names)
	}
}
