package rules

import (
	"net/netip"
	"slices"
	"testing"

	nlib "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

// TestOthers: rules of other programs that keep packets from being routed are seen, and
// ours are not.
func TestOthers(t *testing.T) {
	gateway(t)
	o, err := OpenOthers()
	ok(t, err)
	t.Cleanup(func() { ok(t, o.Close()) })
	f := openFence(t, true)
	ok(t, f.Set(ownVIPs...))
	r, err := o.Read(t.Context())
	if err != nil || len(r.Denials)+len(r.Lost) > 0 {
		t.Errorf("a fence of ours: %+v %v", r, err)
	}
	for i, src := range ownVIPs {
		x := nlib.NewRule()
		x.Family, x.Priority, x.Type, x.Src = []int{nlib.FAMILY_V4, nlib.FAMILY_V6}[i], 100+i, unix.RTN_PROHIBIT,
			nlib.NewIPNet(src.AsSlice())
		ok(t, nlib.RuleAdd(x))
	}
	r, err = o.Read(t.Context())
	ok(t, err)
	var got []string
	for _, d := range r.Denials {
		got = append(got, d.String())
	}
	if want := []string{"100: from 192.0.2.1 prohibit", "101: from 2001:db8::1 prohibit"}; !slices.Equal(got, want) ||
		len(r.Lost) > 0 {
		t.Errorf("denials %q, want %q; lost %v", got, want, r.Lost)
	}
	if r.Denials[0].Family != sadb.FamilyIPv4 || r.Denials[1].Family != sadb.FamilyIPv6 {
		t.Errorf("families of %+v", r.Denials)
	}
	list, err := nlib.RuleList(nlib.FAMILY_V6)
	ok(t, err)
	for _, x := range list {
		if x.Table == unix.RT_TABLE_MAIN {
			ok(t, nlib.RuleDel(&x))
		}
	}
	if r, err = o.Read(t.Context()); err != nil || !slices.Equal(r.Lost, []sadb.Family{sadb.FamilyIPv6}) {
		t.Errorf("lost %v, want that of IPv6: %v", r.Lost, err)
	}
}

// TestSources: IKE gets a source in each family, by the way that there is, and loses it.
func TestSources(t *testing.T) {
	link := gateway(t)
	s, err := OpenSources()
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	beyond := netip.MustParseAddr("198.51.100.7")
	ok(t, nlib.RouteAdd(&nlib.Route{LinkIndex: link, Gw: far4.AsSlice(), Dst: nlib.NewIPNet(beyond.AsSlice())}))
	for _, remote := range []netip.Addr{far4, far6, beyond, far4} {
		src := vip4
		if remote.Is6() {
			src = vip6
		}
		ok(t, s.Prefer(remote, src))
	}
	found := make(map[string]nlib.Route)
	for i, family := range []int{nlib.FAMILY_V4, nlib.FAMILY_V6} {
		list, err := nlib.RouteListFiltered(family, &nlib.Route{Table: SourceTable}, nlib.RT_FILTER_TABLE)
		ok(t, err)
		for _, r := range list {
			found[r.Dst.IP.String()] = r
			if want := ownVIPs[i].String(); r.Src.String() != want || r.LinkIndex != link {
				t.Errorf("to %s from %s by interface %d, want %s, %d", r.Dst, r.Src, r.LinkIndex, want, link)
			}
		}
		rules, err := nlib.RuleList(family)
		ok(t, err)
		var ports []uint16
		for _, r := range rules {
			if r.Priority == SourcePref && r.Table == SourceTable && r.IifName == "lo" && r.IPProto == unix.IPPROTO_UDP {
				ports = append(ports, r.Sport.Start)
			}
		}
		if slices.Sort(ports); !slices.Equal(ports, []uint16{500, 4500}) {
			t.Errorf("family %d: rules for ports %v", family, ports)
		}
	}
	if len(found) != 3 || found[beyond.String()].Gw.String() != far4.String() || found[far4.String()].Gw != nil {
		t.Errorf("routes %v", found)
	}
	if err := s.Prefer(netip.MustParseAddr("203.0.113.9"), vip4); err == nil {
		t.Error("a remote without a route is accepted")
	}
	ok(t, s.Forget())
	for _, family := range []int{nlib.FAMILY_V4, nlib.FAMILY_V6} {
		if list, err := nlib.RouteListFiltered(family, &nlib.Route{Table: SourceTable}, nlib.RT_FILTER_TABLE); err != nil ||
			len(list) > 0 {
			t.Errorf("routes are left: %v %v", list, err)
		}
	}
}
