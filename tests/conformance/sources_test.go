package conformance

import (
	"net/netip"
	"strings"
	"testing"

	"sasyncd/kernel/rules"
	"sasyncd/tests/harness/lab"
)

// TestSources: what a daemon that binds to no address sends on the ports of IKE
// leaves from the virtual address while that is here, and nothing else does.
func TestSources(t *testing.T) {
	n := lab.New(t)
	sw := n.Switch("wan")
	gw := n.Node("gw")
	gw.Plug(sw, "wan0", "192.0.2.11/24", "2001:db8::11/64")
	gw.IP("addr add 192.0.2.1/32 dev wan0 noprefixroute",
		"addr add 2001:db8::1/128 dev wan0 nodad noprefixroute preferred_lft 0",
		"route add default via 192.0.2.254 dev wan0", "route add default via 2001:db8::fe dev wan0")
	var s *rules.Sources
	if err := gw.Do(func() (err error) { s, err = rules.OpenSources(); return err }); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	source := func(remote, more string) string {
		out := gw.Run("ip route get " + remote + " " + more)
		_, after, _ := strings.Cut(out, " src ")
		return strings.Fields(after + " none")[0]
	}
	ends := []struct{ remote, vip, own string }{
		{"198.51.100.1", "192.0.2.1", "192.0.2.11"}, {"192.0.2.100", "192.0.2.1", "192.0.2.11"},
		{"2001:db8:2::1", "2001:db8::1", "2001:db8::11"}, {"2001:db8::100", "2001:db8::1", "2001:db8::11"},
	}
	for _, e := range ends {
		for range 2 { // doing it again is no error
			if err := s.Prefer(netip.MustParseAddr(e.remote), netip.MustParseAddr(e.vip)); err != nil {
				t.Fatal(err)
			}
		}
		for more, want := range map[string]string{"ipproto udp sport 500": e.vip, "ipproto udp sport 4500": e.vip,
			"ipproto udp sport 501": e.own, "": e.own} {
			if got := source(e.remote, more); got != want {
				t.Errorf("to %s %s from %s, want %s", e.remote, more, got, want)
			}
		}
	}
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
	for _, e := range ends {
		if got := source(e.remote, "ipproto udp sport 500"); got != e.own {
			t.Errorf("forgotten, and to %s from %s", e.remote, got)
		}
	}
	// An address that is not here cannot be preferred.
	if err := s.Prefer(netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.77")); err == nil {
		t.Error("preferred an address that is not here")
	}
}
