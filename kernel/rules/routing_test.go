package rules

import (
	"net/netip"
	"testing"

	"sasyncd/sync/sadb"
)

func TestRules(t *testing.T) {
	for _, r := range []rule{
		{src: netip.MustParseAddr("192.0.2.1"), pref: 5},
		{src: netip.MustParseAddr("2001:db8::1"), pref: 6, table: 112112, pass: true},
		{src: netip.MustParseAddr("2001:db8::1"), pref: 7, table: 112000003},
		sinkRule(netip.MustParsePrefix("10.1.0.0/24"), SinkTable),
		sinkRule(netip.MustParsePrefix("0.0.0.0/0"), SinkTable+63),
		sinkRule(netip.MustParsePrefix("fd01::1/128"), SinkTable),
		sinkRule(netip.MustParsePrefix("::/0"), SinkTable),
		{iif: "eth0", family: sadb.FamilyIPv4, pref: 3},
		{iif: "a-long-name-15b", family: sadb.FamilyIPv6, pref: 3},
	} {
		got, ok := decodeRule(appendRule(nil, r))
		if !ok || got != r {
			t.Errorf("%+v, want %+v", got, r)
		}
	}
	foreign := appendRule(nil, rule{src: netip.MustParseAddr("192.0.2.1"), pref: 5})
	foreign[len(foreign)-4] = 3 // another protocol number
	if _, ok := decodeRule(foreign); ok {
		t.Error("somebody else's rule taken for ours")
	}
}
