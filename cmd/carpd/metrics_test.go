package main

import (
	"context"
	"flag"
	"net/netip"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/carp/track"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/daemon/daemontest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// pictured is a node with a group of VRRP that is MASTER and one of CARP that
// cannot take over.
func pictured() []api.GroupState {
	peer := netip.MustParseAddr("192.0.2.3")
	return []api.GroupState{
		{Group: "ipsec", State: api.StateMaster, Reason: "no advertisements", AgeMS: 61500, Term: 8, Seen: 8,
			Demotion:  3,
			Demotions: []api.Demotion{{ID: "track:link:eth2", By: 2}, {ID: "operator", By: 1}}, Clients: []string{"sasyncd"},
			Instances: []api.InstanceState{{Name: "outside", Interface: "eth0", Protocol: "vrrp3", ID: 10,
				State: api.StateMaster,
				Routers: []api.RouterState{{Family: "ipv4", State: api.StateMaster, Priority: 200, DownMS: 804,
					Source: netip.MustParseAddr("192.0.2.2"),
					Peer:   peer, HeardMS: 62300, Sent: 246, Received: 12, Dropped: 2, Repaired: 1,
					Trailers: map[string]uint64{"good": 11, "absent": 1},
					Refusals: []api.Refusal{{Kind: api.RefusedTTL, Count: 2, Text: "from beyond a router"}}}}}},
			VIPs: []api.VIP{{Address: netip.MustParseAddr("192.0.2.1"), Interface: "eth0", Instance: "outside"}},
			Transitions: []api.Transition{{From: api.StateBackup, To: api.StateMaster, Count: 1},
				{From: api.StateMaster, To: api.StateBackup}},
			Takeover: &api.Takeover{Reason: "no advertisements", From: peer, GapMS: 812, AgeMS: 61500},
			OutageMS: 804,
			Repairs: []api.Repair{{Kind: api.RepairedGate, Count: 3, AgeMS: 100},
				{Kind: api.RepairedFilter, Error: "no netlink"}}},
		{Group: "other", State: api.StateBackup, Fenced: true, Held: "there are no IPsec policies yet",
			Blocked: "sasyncd is not there", OutageMS: -1,
			Configured: []api.Configured{{Address: netip.MustParsePrefix("192.0.2.9/24"), Interface: "eth1"}},
			Instances: []api.InstanceState{{Name: "carp1", Interface: "eth1", Protocol: "carp", ID: 1,
				State: api.StateBackup,
				Routers: []api.RouterState{{Family: "ipv6", State: api.StateBackup, AdvBase: 1, AdvSkew: 64,
					DownMS: 3250, BadDigests: 4}}}}},
	}
}

func TestMetrics(t *testing.T) {
	c := newCollector(func(context.Context) ([]api.GroupState, error) { return pictured(), nil }, []track.Config{
		{Kind: track.Link, Target: "eth2", Group: "ipsec"}, {Kind: track.Address,
			Addr: netip.MustParseAddr("192.0.2.254"), Group: "ipsec"}})
	c.now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	reg := registry(c, 5)
	reg.MustRegister(daemon.NewRefusalCounts("carpd", map[string]func(func(string, uint64)){
		"control": api.NewServer(nil, nil, nil).Refused, "metrics": new(daemon.Refusals).Each}))
	daemontest.Metrics(t, reg, *update)
}

// TestMomentsStay: a moment is the same in each scrape although it is told as an age,
// and a new one is another.
func TestMomentsStay(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	m := moments{now: func() time.Time { return now }, seen: map[string]float64{}}
	first := m.of("state g", 61500)
	now = now.Add(15*time.Second + 7*time.Millisecond)
	if again := m.of("state g", 76503); again != first || first != 1_699_999_938.5 {
		t.Errorf("%v, then %v", first, again)
	}
	if other := m.of("state h", 76503); other == first {
		t.Error("two moments are one")
	}
	if later := m.of("state g", 0); later != 1_700_000_015.007 {
		t.Errorf("after a change %v", later)
	}
}
