package rules

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzDecodeRule(f *testing.F) {
	f.Add(appendRule(nil, rule{pref: 5, table: 7}))
	f.Add(appendRoute(nil, route{family: unix.AF_INET6, table: 7}))
	f.Add(appendRule(nil, sinkRule(netip.MustParsePrefix("10.1.0.0/24"), SinkTable)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, ok := decodeRule(payload); ok && !r.src.IsValid() && !r.net.IsValid() && r.iif == "" && r.pref != GuardPref {
			t.Error("a rule of ours for no address and no interface")
		}
		decodeAny(payload)
		decodeRoute(payload)
	})
}
