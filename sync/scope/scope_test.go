package scope

import (
	"net/netip"
	"testing"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
)

// TestWhatStaysOut: an IKE daemon installs more than its tunnels, and a node has
// IPsec of its own. Neither is a group's, and is never touched.
func TestWhatStaysOut(t *testing.T) {
	vip, own, remote := sadbtest.VIPs()[0], netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("198.51.100.1")
	lan, far := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	tmpl := func(src, dst netip.Addr, mode sadb.Mode) []sadb.Template {
		return []sadb.Template{{Src: src, Dst: dst, Proto: sadb.ProtoESP, Family: sadb.FamilyIPv4, Reqid: 1,
			Mode: mode}}
	}
	sel := sadb.SelectorOf(lan, far)
	single := func(a, b netip.Addr) sadb.Selector {
		return sadb.SelectorOf(netip.PrefixFrom(a, 32), netip.PrefixFrom(b, 32))
	}
	s, whole := New(sadbtest.VIPs(), false, nil), New(nil, true, nil)
	for _, c := range []struct {
		name         string
		policy       sadb.Policy
		group, whole bool
	}{
		{"a tunnel from a vip", sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sel},
			Templates: tmpl(vip, remote, sadb.ModeTunnel)}, true, true},
		{"a tunnel to a vip", sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirFwd, Selector: sel},
			Templates: tmpl(remote, vip, sadb.ModeTunnel)}, true, true},
		{"a tunnel of this node alone", sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: sel},
			Templates: tmpl(own, remote, sadb.ModeTunnel)}, false, true},
		{"transport from a vip", sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: single(vip, remote)},
			Templates: tmpl(netip.Addr{}, netip.Addr{}, sadb.ModeTransport)}, true, true},
		{"transport of this node", sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: single(own, remote)},
			Templates: tmpl(netip.Addr{}, netip.Addr{}, sadb.ModeTransport)}, false, true},
		{"no template: pluto's for neighbour discovery, a bypass, a block",
			sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: single(vip, remote)}}, false, true},
		{"of a socket: charon's port 500", sadb.Policy{Socket: true, Key: sadb.PolicyKey{Dir: sadb.DirOut,
			Selector: sel}, Templates: tmpl(vip, remote, sadb.ModeTunnel)}, false, false},
	} {
		if got := s.Policy(&c.policy); got != c.group {
			t.Errorf("policy, %s: belongs to the group %v, want %v", c.name, got, c.group)
		}
		if got := whole.Policy(&c.policy); got != c.whole {
			t.Errorf("policy, %s: belongs to a whole kernel %v, want %v", c.name, got, c.whole)
		}
	}
	esp := func(src, dst netip.Addr) *sadb.SA {
		return &sadb.SA{Key: sadb.SAKey{Dst: dst, SPI: 0x1000, Proto: sadb.ProtoESP}, Src: src, Mode: sadb.ModeTunnel,
			AEAD: &sadb.Algorithm{Name: "rfc4106(gcm(aes))", Key: sadb.NewSecret(make([]byte, 20)), TruncBits: 128}}
	}
	larval := esp(vip, remote) // what a trap policy's acquire leaves until it is negotiated
	larval.AEAD = nil
	for _, c := range []struct {
		name string
		sa   *sadb.SA
		dir  sadb.Direction
		ok   bool
	}{
		{"from a vip", esp(vip, remote), sadb.DirOut, true},
		{"to a vip", esp(remote, vip), sadb.DirIn, true},
		{"of this node alone", esp(own, remote), sadb.DirUnknown, false},
		{"larval", larval, sadb.DirUnknown, false},
	} {
		if dir, ok := s.SA(c.sa); dir != c.dir || ok != c.ok {
			t.Errorf("SA, %s: %v %v, want %v %v", c.name, dir, ok, c.dir, c.ok)
		}
	}
}
