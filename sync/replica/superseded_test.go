package replica

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// TestSuperseded has the cases in which it cannot be sure.
func TestSuperseded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1e6, 0)
	vip, remote := sadbtest.VIPs()[0], netip.MustParseAddr("198.51.100.0")
	// A publisher with one imported tunnel and a fresh one for the same.
	make2 := func() (*Publisher, []sadb.Op) {
		p := NewPublisher(wire.StreamID{}, now)
		old := tunnel(r, 0, false)
		for i, op := range append(old[:2:2], sadbtest.Negotiated(r, old, false)...) {
			sa := *op.SA
			sa.Dir = sadb.DirOut
			if sa.Key.Dst == vip {
				sa.Dir = sadb.DirIn
			}
			p.PutSA(now, &sa)
			if i < 2 {
				p.take(now, p.sas[sa.Key])
			}
		}
		for _, op := range old[2:] {
			p.PutPolicy(now, op.Policy)
		}
		return p, old
	}
	late := now.Add(SupersededIdle)
	cases := []struct {
		name   string
		change func(p *Publisher, old []sadb.Op)
		at     time.Time
		want   int
	}{
		{"covered and idle", nil, late, 2},
		{"too early", nil, late.Add(-time.Second), 0},
		{"only one direction is fresh", func(p *Publisher, _ []sadb.Op) {
			for k, e := range p.sas {
				if !e.imported && e.sa.Dir == sadb.DirIn {
					p.DeleteSA(now, k)
				}
			}
		}, late, 0},
		{"only the other direction is fresh", func(p *Publisher, _ []sadb.Op) {
			for k, e := range p.sas {
				if !e.imported && e.sa.Dir != sadb.DirIn {
					p.DeleteSA(now, k)
				}
			}
		}, late, 0},
		{"the remote end used the old SA lately", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				if e.imported && e.sa.Dir == sadb.DirIn {
					e.heard = time.Second
				}
			}
		}, late, 0},
		{"this node used the old SA lately", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				if e.imported && e.sa.Dir != sadb.DirIn {
					e.heard = time.Second
				}
			}
		}, late, 2},
		{"the fresh SAs are of another interface", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				if !e.imported {
					e.sa.IfID = 7
				}
			}
		}, late, 0},
		{"a flush has taken the old SA", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				e.retained = e.imported
			}
		}, late, 0},
		{"an operator's keys", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				e.sa.Reqid = sadb.StaticReqid
			}
		}, late, 0},
		{"a policy names the old SA", func(p *Publisher, old []sadb.Op) {
			pol := *old[2].Policy
			pol.Templates = []sadb.Template{pol.Templates[0]}
			pol.Templates[0].SPI = old[0].SA.Key.SPI
			p.PutPolicy(now, &pol)
		}, late, 0},
		{"two tunnels look the same to the kernel, one was made anew", func(p *Publisher, old []sadb.Op) {
			pol := *old[2].Policy
			pol.Key.Selector = sadb.SelectorOf(netip.MustParsePrefix("10.1.0.0/24"),
				netip.MustParsePrefix("10.77.0.0/24"))
			p.PutPolicy(now, &pol)
		}, late, 0},
		{"the fresh SAs are for other traffic", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				if e.imported {
					e.sa.Selector = sadb.SelectorOf(netip.MustParsePrefix("10.1.0.0/24"),
						netip.MustParsePrefix("10.78.0.0/24"))
				}
			}
		}, late, 0},
		{"nothing is replicated", func(p *Publisher, _ []sadb.Op) {
			for _, e := range p.sas {
				e.imported = false
			}
			p.imported = 0
		}, late, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, old := make2()
			if old[0].SA.Key.Dst != remote {
				t.Fatal("the tunnel goes elsewhere")
			}
			if c.change != nil {
				c.change(p, old)
			}
			if got := p.Superseded(c.at); len(got) != c.want {
				t.Errorf("%d SAs are superseded, want %d", len(got), c.want)
			}
		})
	}
}
