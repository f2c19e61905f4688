package election

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// TestClaims: both gateways see who answers for the virtual addresses: the MASTER, and a
// machine that has one of them configured. That the MASTER does not answer is seen, too.
func TestClaims(t *testing.T) {
	t.Parallel()
	p, a, b := run(t)
	const limit = time.Minute // they ask every 10 s, and silence takes four questions
	claimed := func(g *gateway, mac string) bool {
		s := g.state()
		return slices.ContainsFunc(s.Instances, func(in api.InstanceState) bool {
			return slices.ContainsFunc(in.Routers, func(r api.RouterState) bool {
				return slices.ContainsFunc(r.Claims, func(c api.Claim) bool { return c.MAC == mac })
			})
		})
	}
	silent := func(g *gateway) (out string) {
		for _, in := range g.state().Instances {
			for _, r := range in.Routers {
				out += fmt.Sprint(r.Silent)
			}
		}
		return strings.ReplaceAll(out, "[]", "")
	}
	lab.Eventually(t, limit, "the backup hears the master answer", func() bool { return claimed(b, a.in.MAC.String()) })
	_, host, _ := strings.Cut(p.host.Run("ip -o link show eth0"), "link/ether ")
	host, _, _ = strings.Cut(host, " ")
	for _, g := range []*gateway{a, b} {
		if claimed(g, host) {
			t.Errorf("%s says that the host answers, which has no virtual address", g.Name)
		}
	}
	if claimed(a, a.in.MAC.String()) {
		t.Error("the master counts its own answers")
	}
	p.host.IP("addr add 10.1.0.1/32 dev eth0")
	lab.Eventually(t, limit, "both hear the host answer", func() bool { return claimed(a, host) && claimed(b, host) })
	p.host.IP("addr del 10.1.0.1/32 dev eth0")
	if s := silent(b); s != "" {
		t.Errorf("%s is said to be silent", s)
	}
	a.Sysctl("net/ipv4/conf/all/arp_ignore=8")
	lab.Eventually(t, 2*limit, "the backup notices that the master does not answer",
		func() bool { return strings.Contains(silent(b), "[10.1.0.1]") })
	a.Sysctl("net/ipv4/conf/all/arp_ignore=0")
	lab.Eventually(t, limit, "it answers again", func() bool { return silent(b) == "" })
}
