package engine

import (
	"net/netip"
	"testing"

	"sasyncd/carp/link"
)

// Members in several networks are each spoken to from the address in theirs.
func TestSourceOfEachMember(t *testing.T) {
	near, far := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("198.51.100.3")
	e, _ := testEngine(t, func(c *Config) { c.Routers[0].Peers = []netip.Addr{near, far} })
	r := e.routers[0]
	var st link.State
	for _, s := range []string{"172.16.9.2/24", "198.51.100.2/24", "192.0.2.2/24"} {
		p := netip.MustParsePrefix(s)
		st.Addrs = append(st.Addrs, link.Address{IP: p.Addr(), Net: p.Masked()})
	}
	if src := r.route(&st); src != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("the router's own is %v", src)
	}
	for peer, want := range map[netip.Addr]string{near: "192.0.2.2", far: "198.51.100.2"} {
		if got := r.towards(peer); got != netip.MustParseAddr(want) {
			t.Errorf("to %v from %v, want %s", peer, got, want)
		}
	}
}
