package doctor

import (
	"net/netip"
	"strings"
	"testing"

	"sasyncd/carp/api"
)

// healthy is a backup that hears its master.
func healthy() examination {
	return examination{
		groups: []api.GroupState{{Group: "g", State: api.StateBackup, AgeMS: 60000, Instances: []api.InstanceState{{
			Name: "one", Interface: "eth0", State: api.StateBackup,
			Routers: []api.RouterState{{Family: "ipv4", State: api.StateBackup, DownMS: 900, Received: 100,
				HeardMS: 100, Peer: netip.MustParseAddr("192.0.2.1")}},
		}}}},
		clock: &api.Clock{},
		sysctl: func(name string) string {
			if name == "all/forwarding" {
				return "1"
			}
			return "0"
		},
		raw: map[string]bool{"eth0": true},
	}
}

func TestDiagnose(t *testing.T) {
	refuse := func(kind string) func(*examination) {
		return func(x *examination) {
			x.groups[0].Instances[0].Routers[0].Refusals = []api.Refusal{{Kind: kind, Count: 3, AgeMS: 100,
				Text: "refused", Peer: netip.MustParseAddr("192.0.2.9")}}
		}
	}
	router := func(x *examination) *api.RouterState { return &x.groups[0].Instances[0].Routers[0] }
	for name, tc := range map[string]struct {
		edit    func(*examination)
		problem bool
		want    string // in what or remedy; "": nothing is said
	}{
		"healthy":      {func(*examination) {}, false, ""},
		"nobody heard": {func(x *examination) { router(x).Expired = true }, true, "hears no master"},
		"one side heard": {func(x *examination) {
			x.groups[0].Instances = append(x.groups[0].Instances, healthy().groups[0].Instances...)
			router(x).Expired = true
		}, true, "the link may fail in one direction"},
		"no interface": {func(x *examination) { x.groups[0].Instances[0].State = api.StateInit }, true, "eth0 is down"},
		"held": {func(x *examination) { x.groups[0].Held = "no policies" }, false,
			"comes in by eth0 is forwarded: no policies; right for"},
		"firewall":     {func(x *examination) { x.raw["eth0"] = false }, false, "protocol 112"},
		"CARP":         {refuse(api.RefusedProtocol), true, "another number"},
		"duplicate id": {refuse(api.RefusedAddresses), true, "same number"},
		"own address":  {refuse(api.RefusedOwn), true, "another address"},
		"password": {refuse(api.RefusedAuth), true,
			"advertisements are refused, 3 so far, the last from 192.0.2.9: refused; write the same pass"},
		"cast":      {refuse(api.RefusedCast), true, "unicast (carppeer) on all members"},
		"no member": {refuse(api.RefusedPeer), true, "the last from 192.0.2.9: refused; name that address"},
		"router":    {refuse(api.RefusedTTL), true, "write hops"},
		"clone": {refuse(api.RefusedMAC), true,
			"doubtful, 3 so far, the last from 192.0.2.9: refused; give one of the machines another MAC"},
		"long ago": {func(x *examination) { refuse(api.RefusedAuth)(x); router(x).Refusals[0].AgeMS = 1e6 }, false,
			""},
		"clock":       {func(x *examination) { x.clock = &api.Clock{Jumps: 1, LastMS: 3600e3} }, true, "1h0m0s"},
		"two masters": {func(x *examination) { x.groups[0].State = api.StateMaster }, true, "192.0.2.1 is master too"},
		"arp_ignore": {func(x *examination) {
			in := &x.groups[0].Instances[0]
			in.Virtual, in.State = true,
				api.StateMaster
		}, true, "arp_ignore is 0"},
		"repaired now": {func(x *examination) {
			x.groups[0].Repairs = []api.Repair{{Kind: api.RepairedGate, Count: 2, AgeMS: 500}}
		}, true, "the IPv6 gate was removed, which silences the addresses if carpd dies; repaired 2 times"},
		"repaired long ago": {func(x *examination) {
			x.groups[0].Repairs = []api.Repair{{Kind: api.RepairedFilter, Count: 1, AgeMS: 3600e3}}
		}, false, "nftables tables of carpd were changed"},
		"cannot be repaired": {func(x *examination) {
			x.groups[0].Repairs = []api.Repair{{Kind: api.RepairedRoute, Error: "no netlink"}}
		}, true, "cannot repair: local routes of virtual addresses were removed: no netlink"},
		"configured": {func(x *examination) {
			x.groups[0].Configured = []api.Configured{{Address: netip.MustParsePrefix("192.0.2.9/24"),
				Interface: "eth3"}}
		}, true, "the virtual address 192.0.2.9/24 is also configured by the system on eth3"},
		"no router": {func(x *examination) { x.sysctl = func(string) string { return "0" } }, false,
			"forwards nothing"},
		"strict filter": {func(x *examination) {
			x.groups[0].Instances[0].Virtual = true
			x.sysctl = func(string) string { return "1" }
		}, false, "rp_filter is 1"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			x := healthy()
			tc.edit(&x)
			list := x.diagnose()
			text, problem := "", false
			for _, f := range list {
				if f.Remedy == "" || f.Code == "" {
					t.Errorf("no remedy, or no code: %+v", f)
				}
				text += f.What + "; " + f.Remedy + "\n"
				problem = problem || f.Problem
			}
			if problem != tc.problem || !strings.Contains(text, tc.want) || tc.want == "" && text != "" {
				t.Errorf("problem %v:\n%s", problem, text)
			}
		})
	}
}
