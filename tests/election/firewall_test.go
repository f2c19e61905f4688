package election

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/tests/harness/lab"
)

// rules sets a firewall on a node, or in the network.
func rules(n *lab.Node, text string) {
	n.Run("nft -f " + n.WriteFile("nft.conf", text))
}

// settled waits until exactly one node is master, and fails if that changes.
func (p *pair) settled(limit, stable time.Duration) (master *gateway) {
	p.t.Helper()
	lab.Eventually(p.t, limit, "there is one master", func() bool {
		n := 0
		for _, g := range p.gws {
			if s := g.state(); s.State == api.StateMaster {
				master, n = g, n+1
			}
		}
		return n == 1
	})
	was := map[*gateway]*api.GroupState{}
	for _, g := range p.gws {
		was[g] = g.state()
	}
	settle(p.t, stable)
	for _, g := range p.gws {
		g.same(p.t, was[g])
		if holds := g.holds(); (g == master) != (holds == 4) || g != master && holds != 0 {
			p.t.Errorf("%s holds %d addresses", g.Name, holds)
		}
	}
	return master
}

// A firewall that drops the protocol, in whatever place and direction, ends with
// one master that stays: it does not matter, or the node that cannot send
// notices, or the one that is not heard gives way.
func TestFirewall(t *testing.T) {
	t.Parallel()
	const drop = "ip protocol 112 counter drop; ip6 nexthdr 112 counter drop"
	hooks := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			fmt.Fprintf(&b, "table inet f { chain %s { type filter hook %s priority 0; %s\n}\n}\n", n, n, drop)
		}
		return b.String()
	}
	port := func(dev, hook string) string {
		return fmt.Sprintf("table netdev f { chain c%s { type filter hook %s device %q priority 0; %s\n}\n}\n",
			strings.ReplaceAll(dev, "-", ""), hook, dev, drop)
	}
	unicast := func(g *gateway) string {
		return fmt.Sprintf(`
vrrp inside  { carpdev in0;  vrid 10; priority %d; interval 250ms; address 10.1.0.1/32; address fd00:1::1/128; unicast { 10.1.0.1%d fd00:1::1%d }; group gate }
vrrp outside { carpdev out0; vrid 11; priority %d; interval 250ms; address 10.3.0.1/32; address fd00:3::1/128; unicast { 10.3.0.1%d fd00:3::1%d }; group gate }
`, g.priority, 3-g.n, 3-g.n, g.priority, 3-g.n, 3-g.n)
	}
	for _, tc := range []struct {
		name      string
		instances func(*gateway) string
		where     func(p *pair) *lab.Node
		rules     func(p *pair) string
		moves     bool
	}{
		{"in and out of both nodes' stacks", nil, nil, func(*pair) string { return hooks("input", "output") }, false},
		{"into the backup's interfaces", nil, func(p *pair) *lab.Node { return p.gws[1].Node },
			func(*pair) string { return port("in0", "ingress") + port("out0", "ingress") }, false},
		{"out of the master's interfaces", nil, func(p *pair) *lab.Node { return p.gws[0].Node },
			func(*pair) string { return port("in0", "egress") + port("out0", "egress") }, true},
		{"out of one of the master's interfaces", nil, func(p *pair) *lab.Node { return p.gws[0].Node },
			func(*pair) string { return port("in0", "egress") }, true},
		{"out of the master's stack, unicast", unicast, func(p *pair) *lab.Node { return p.gws[0].Node },
			func(*pair) string { return hooks("output") }, true},
		{"in the network, from the master", nil, func(p *pair) *lab.Node { return p.net.Fabric() },
			func(p *pair) string { return port(p.gws[0].in.Outer, "ingress") + port(p.gws[0].out.Outer, "ingress") },
			true},
		{"in the network, from the backup", nil, func(p *pair) *lab.Node { return p.net.Fabric() },
			func(p *pair) string { return port(p.gws[1].in.Outer, "ingress") + port(p.gws[1].out.Outer, "ingress") },
			false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.instances, p.options = tc.instances, "preempt yes"
			a, b := p.gws[0], p.gws[1]
			if !filters(a.Node) {
				t.Skip("this kernel has no firewall that could be set up: run the tests as root")
			}
			p.start(a)
			a.await(api.StateMaster, patience)
			p.start(b)
			b.awaitLog("master heard", 4)
			where := []*lab.Node{a.Node, b.Node}
			if tc.where != nil {
				where = []*lab.Node{tc.where(p)}
			}
			for _, n := range where {
				rules(n, tc.rules(p))
			}
			want := a
			if tc.moves {
				want = b
				b.await(api.StateMaster, 2*takeover)
			}
			if got := p.settled(6*takeover, 3*takeover); got != want {
				t.Errorf("%s is master, want %s", got.Name, want.Name)
			}
			for _, n := range where {
				n.Run("nft flush ruleset")
			}
			p.settled(4*takeover, takeover)
		})
	}
}
