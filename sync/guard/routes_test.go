package guard

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
)

// TestRoutesDropNoMore: whatever the routes drop, the program drops, and nothing that IPsec
// sends.
func TestRoutesDropNoMore(t *testing.T) {
	walled, open := 0, 0
	for seed := range int64(seeds) {
		d := dice{rand.New(rand.NewSource(seed))}
		policies := d.policies()
		if seed%2 == 0 { // selectors with ports leave few routes
			for _, p := range policies {
				if d.Intn(10) > 0 {
					s := &p.Key.Selector
					s.Proto, s.SrcPortMask, s.DstPortMask, p.Key.Mark = 0, 0, 0, sadb.Mark{}
				}
			}
		}
		rules, _ := Of(policies)
		routes, p := Routes(rules), Compile(rules)
		for i := range routes {
			if i > 0 && compareRoutes(routes[i-1], routes[i]) >= 0 {
				t.Fatalf("seed %d: routes %d and %d are not in order", seed, i-1, i)
			}
		}
		for range 60 {
			pk := d.packet(policies)
			drops := routed(routes, pk.Src, pk.Dst)
			later := pk
			later.Later = true
			if drops && (!p.Drops(pk) || !p.Drops(later)) {
				t.Fatalf("seed %d: the routes drop %+v and the program passes it\n%s%+v", seed, pk, list(rules), routes)
			}
			by := decides(policies, pk)
			switch {
			case by == nil || !demands(by):
				if drops && !keyed(pk) {
					t.Fatalf("seed %d: the routes drop %+v, which needs no IPsec", seed, pk)
				}
			case drops:
				walled++
			default:
				open++
			}
			if by != nil && by.Action == sadb.ActionAllow && demands(by) {
				checkSent(t, seed, routes, by, pk)
			}
		}
	}
	t.Logf("the routes drop %d packets of those that require IPsec, and not %d", walled, open)
	if walled < seeds {
		t.Error("the routes drop next to nothing")
	}
}

// checkSent checks that the routes let out what IPsec makes of a packet that a policy
// decides.
func checkSent(t *testing.T, seed int64, routes []Route, by *sadb.Policy, pk Packet) {
	t.Helper()
	src, dst, always := pk.Src, pk.Dst, false
	for _, o := range by.Templates {
		if o.Mode == sadb.ModeTransport {
			continue
		}
		always = always || !o.Optional
		if o.Src.IsUnspecified() {
			o.Src = here // as good as any
		}
		src, dst = o.Src, o.Dst
		if routed(routes, src, dst) {
			t.Fatalf("seed %d: the routes drop the tunnel %s - %s", seed, src, dst)
		}
	}
	if !always && routed(routes, pk.Src, pk.Dst) {
		t.Fatalf("seed %d: the routes drop %s - %s, which transport mode sends", seed, pk.Src, pk.Dst)
	}
}

func TestRoutes(t *testing.T) {
	lan := sel("10.1.0.0/16", "10.2.0.0/16")
	part := sel("10.1.0.0/16", "10.2.3.0/24")
	transport := require(1, part)
	transport.NoRoute = true
	marked := part
	marked.Mark, marked.MarkMask = 1, 1
	for _, c := range []struct {
		name  string
		rules []Rule
		want  string
	}{
		{"nothing", nil, ""},
		{"a rule", []Rule{require(5, lan)}, "10.1.0.0/16>10.2.0.0/16"},
		{"with ports", []Rule{require(5, lan.with(6, 0, 80))}, ""},
		{"with a protocol", []Rule{require(5, lan.with(6, 0, 0))}, ""},
		{"an exception", []Rule{require(5, lan), bypass(1, part)}, "10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one from everywhere", []Rule{require(5, lan), bypass(1, sel("0.0.0.0/0", "10.2.3.0/24"))},
			"10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one that comes after", []Rule{require(5, lan), bypass(5, part)}, "10.1.0.0/16>10.2.0.0/16"},
		{"one of another destination", []Rule{require(5, lan), bypass(1, sel("10.1.0.0/16", "10.3.0.0/16"))},
			"10.1.0.0/16>10.2.0.0/16"},
		{"one with a port", []Rule{require(5, lan), bypass(1, part.with(6, 0, 22))},
			"10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one with a port and all destinations", []Rule{require(5, lan), bypass(1, lan.with(6, 0, 22))}, ""},
		{"one of some sources", []Rule{require(5, lan), bypass(1, sel("10.1.9.0/24", "10.2.3.0/24"))},
			"10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one of some sources and all destinations", []Rule{require(5, lan), bypass(1, sel("10.1.9.0/24",
			"10.2.0.0/16"))}, ""},
		{"a source with a table of its own", []Rule{require(5, lan), bypass(1, sel("10.1.9.0/24", "10.2.3.0/24")),
			require(3, sel("10.1.9.0/24", "10.2.0.0/16"))}, "10.1.9.0/24!10.2.3.0/24 10.1.9.0/24>10.2.0.0/16 " +
			"10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one with another mark only", []Rule{require(5, lan), bypass(1, marked)},
			"10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one of everything", []Rule{require(5, lan), bypass(1, sel("10.0.0.0/8", "10.0.0.0/8"))}, ""},
		{"one that is all of it", []Rule{require(5, lan), bypass(1, lan)}, ""},
		{"a rule within the exception", []Rule{require(5, lan), bypass(3, part), require(1, sel("10.1.0.0/16",
			"10.2.3.4/32"))}, "10.1.0.0/16>10.2.3.4/32 10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"a rule before the exception", []Rule{require(5, lan), bypass(3, part), require(1, part)},
			"10.1.0.0/16>10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"one with a port that never decides", []Rule{require(5, lan), bypass(3, part.with(6, 0, 22)),
			require(1, sel("10.0.0.0/8", "10.2.3.0/24"))}, "10.1.0.0/16>10.2.0.0/16 10.0.0.0/8>10.2.3.0/24"},
		{"transport mode", []Rule{require(5, lan), transport}, "10.1.0.0/16!10.2.3.0/24 10.1.0.0/16>10.2.0.0/16"},
		{"both families", []Rule{require(5, lan), require(5, sel("2001:db8::/32", "::/0")), bypass(1, sel("::/0",
			"fe80::/10"))}, "10.1.0.0/16>10.2.0.0/16 2001:db8::/32!fe80::/10 2001:db8::/32>::/0"},
	} {
		var got []string
		for _, r := range Routes(c.rules) {
			got = append(got, fmt.Sprintf("%s%s%s", r.Src, map[bool]string{true: "!", false: ">"}[r.Pass], r.Dst))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: routes %q, want %q", c.name, s, c.want)
		}
	}
}
