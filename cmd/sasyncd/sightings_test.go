package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/report"
	"sasyncd/sync/engine"
	"sasyncd/sync/members"
	"sasyncd/sync/peer"
	"sasyncd/sync/wire"
)

// TestSeenIsNamed: who is seen by way of another has the name of the peer that it is.
func TestSeenIsNamed(t *testing.T) {
	a, b, c := wire.NodeID{1}, wire.NodeID{2}, wire.NodeID{3}
	at := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	relay := peer.Status{Name: "10.9.0.1", Node: a, Session: new(peer.Session), Addrs: at("10.9.0.1:500")}
	for what, tt := range map[string]struct {
		peers []peer.Status
		want  string
	}{
		"by its id": {[]peer.Status{relay, {Name: "10.9.0.3", Node: c, Addrs: at("10.1.1.1:500")}},
			"10.9.0.3"},
		"by its address":      {[]peer.Status{relay, {Name: "gw3", Addrs: at("10.9.0.3:500")}}, "gw3"},
		"another port":        {[]peer.Status{relay, {Name: "gw3", Addrs: at("10.9.0.3:501")}}, ""},
		"the peer is another": {[]peer.Status{relay, {Name: "gw3", Node: b, Addrs: at("10.9.0.3:500")}}, ""},
		"the peer is there": {[]peer.Status{relay, {Name: "gw3", Session: new(peer.Session),
			Addrs: at("10.9.0.3:500")}}, ""},
		"two of that address": {[]peer.Status{relay, {Name: "gw3", Addrs: at("10.9.0.3:500")},
			{Name: "gw4", Addrs: at("10.9.0.3:500")}}, ""},
		"no such peer": {[]peer.Status{relay}, ""},
		"id before an address": {[]peer.Status{relay, {Name: "gw4", Addrs: at("10.9.0.3:500")}, {Name: "gw3", Node: c}},
			"gw3"},
	} {
		m := members.Member{Node: c, Alive: true, Claim: members.Claim{Host: "fw3", Addrs: []string{"10.9.0.3:500"}},
			Seen: members.Sighting{Node: c, Via: a, At: time.Now(),
				Roles: []members.Role{{Group: "outside", Role: "MASTER", Term: 7}}}}
		got := seenOf([]members.Member{m}, tt.peers)
		if len(got) != 1 || got[0].Peer != tt.want || got[0].Via != "10.9.0.1" || got[0].Age > 1 ||
			got[0].Host != "fw3" || len(got[0].Roles) != 1 {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// TestHintsAreOfTheGroup: only what is said of the group in question counts.
func TestHintsAreOfTheGroup(t *testing.T) {
	c := wire.NodeID{3}
	list := []members.Member{{Node: c, Seen: members.Sighting{At: time.Now(),
		Roles: []members.Role{{Group: "inside", Role: "MASTER"}, {Group: "outside", Role: "BACKUP"}}}}}
	for group, want := range map[string][]engine.Role{"inside": {wire.RoleMaster}, "outside": {wire.RoleBackup},
		"other": nil} {
		var got []engine.Role
		for _, h := range hintsOf(list, group) {
			if h.Node != c || h.Age < 0 || h.Age > time.Minute {
				t.Errorf("%+v", h)
			}
			got = append(got, h.Role)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", group, got, want)
		}
	}
}

// TestClaimedAddresses: what this node listens on, as far as another could dial it.
func TestClaimedAddresses(t *testing.T) {
	for at, want := range map[string][]string{
		"10.9.0.3:500": {"10.9.0.3:500"}, "gw3:500": {"gw3:500"}, ":500": nil, "0.0.0.0:500": nil, "[::]:500": nil,
	} {
		if got := reachedAt([]string{at}, nil); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

// TestSeenHasShownNames: a group is called as everywhere else that is shown.
func TestSeenHasShownNames(t *testing.T) {
	names := newNaming([]string{"outside"})
	names.learn("outside", &api.GroupState{Group: "ipsec"})
	list := []report.Seen{{Peer: "10.9.0.3", Roles: []report.SeenRole{{Group: "outside", Role: "MASTER"},
		{Group: "other", Role: "MASTER"}}}}
	if s := sightOf("10.9.0.3", list, names); s.Roles[0].Name != "outside" || !slices.Equal(s.MasterOf,
		[]string{"ipsec", "other"}) {
		t.Errorf("%+v", s)
	}
}
