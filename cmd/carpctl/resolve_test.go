package main

import (
	"net/netip"
	"strings"
	"testing"

	"sasyncd/carp"
	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
)

// TestGroupOrInstance: both name a group, and what names two is refused.
func TestGroupOrInstance(t *testing.T) {
	groups := []api.GroupState{
		{Group: "ipsec", Instances: []api.InstanceState{{Name: "outside"}, {Name: "inside"}}},
		{Group: "lan", Instances: []api.InstanceState{{Name: "lan"}}},
		{Group: "inside", Instances: []api.InstanceState{{Name: "dmz"}}},
	}
	for operand, want := range map[string]string{
		"ipsec": "ipsec", "outside": "ipsec", "lan": "lan", "dmz": "inside",
		"inside": "inside is ambiguous: it belongs to the groups ipsec and inside",
		"wan":    "no such group: wan: want one of ipsec (outside, inside), lan, inside (dmz)",
	} {
		got, err := resolve(operand, groups)
		if got.Group != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s is %q, %v, want %q", operand, got.Group, err, want)
		}
	}
}

// TestResignOnABackup names the gateway to run it on, as long as that is heard.
func TestResignOnABackup(t *testing.T) {
	backup := func(heardMS int64) []api.GroupState {
		return []api.GroupState{{Group: "ipsec", State: api.StateBackup, Instances: []api.InstanceState{
			{Name: "outside", Routers: []api.RouterState{{State: api.StateBackup, DownMS: 900,
				Peer: netip.MustParseAddr("203.0.113.3"), HeardMS: heardMS}}},
			{Name: "inside", Routers: []api.RouterState{{State: api.StateBackup, DownMS: 900}}}}}}
	}
	for heardMS, want := range map[int64]string{
		240: "this gateway is not MASTER of ipsec; it hears the MASTER as 203.0.113.3 (outside, 0.2 s ago)\n" +
			"  remedy: run `carpctl resign ipsec` there\n",
		900: "this gateway is not MASTER of ipsec, and it hears none\n  remedy: see `carpctl doctor`\n",
	} {
		f := &fake{refuse: carp.ErrNotMaster.Error(), only: api.VerbResign, groups: backup(heardMS)}
		code, out, errs := ctl(f.start(t), "resign", "outside")
		if code != daemon.ExitFailure || out != "" || errs != "carpctl: "+want {
			t.Errorf("heard %d ms ago: code %d: %s%s", heardMS, code, out, errs)
		}
	}
}
