package main

import (
	"strings"
	"testing"

	"sasyncd/carp/api"
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
		if got != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s is %q, %v, want %q", operand, got, err, want)
		}
	}
}
