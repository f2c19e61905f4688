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
		{"others that were replicated are gone", func(p *Publisher, _ []sadb.Op) {
			for _, op := range tunnel(r, 5, false)[:2] {
				sa := *op.SA
				p.PutSA(now, &sa)
				p.TakeSA(now, sa.Key)
				p.TakeSA(now, sa.Key)
				p.DeleteSA(now, sa.Key)
			}
		}, late, 2},
		{"replicated since just now", func(p *Publisher, _ []sadb.Op) {
			for k, e := range p.sas {
				if e.imported && e.sa.Dir == sadb.DirIn {
					sa := *e.sa
					p.DeleteSA(now, k)
					p.PutSA(now, &sa)
					p.TakeSA(now.Add(2*time.Second), k)
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

// TestAdopt: what a new master held as a standby is replicated, with what is known of its
// traffic, and what it has made is not.
func TestAdopt(t *testing.T) {
	s := newStandby(t)
	held, own, installed := outbound(2), outbound(4), outbound(6)
	s.put(held, 1)
	s.counters(time.Second, wire.CounterEntry{Handle: 1, OSeq: 1000, Packets: 1000})
	s.counters(2*time.Second, wire.CounterEntry{Handle: 1, OSeq: 51_000, Packets: 51_000})
	peak := s.r.want[held.Key].rate.Peak()
	if peak < 40_000 {
		t.Fatalf("a rate of %v", peak)
	}
	now := time.Unix(1e6, 0)
	p := NewPublisher(wire.StreamID{Term: 2}, now)
	for _, sa := range []*sadb.SA{held, own, installed} {
		p.PutSA(now, sa)
	}
	p.Adopt(now, s.r, func(sa *sadb.SA) bool { return sa.Key == installed.Key })
	p.Adopt(now, s.r, nil) // once is enough
	for sa, want := range map[*sadb.SA]bool{held: true, own: false, installed: true} {
		if e := p.sas[sa.Key]; e.imported != want {
			t.Errorf("%s is replicated: %v", sa.Key, e.imported)
		}
	}
	if p.imported != 2 {
		t.Errorf("%d are replicated, want 2", p.imported)
	}
	if got := p.sas[held.Key].rate.Peak(); got != peak {
		t.Errorf("a rate of %v, was %v", got, peak)
	}
	s.r.KeepNames()
	if !s.r.NamesOnly() || !s.r.WasHeld(held.Key) || s.r.WasHeld(own.Key) {
		t.Error("what was held is not known by its name")
	}
	q := NewPublisher(wire.StreamID{Term: 3}, now)
	q.PutSA(now, held)
	if q.Adopt(now, s.r, nil); !q.sas[held.Key].imported {
		t.Error("what is known by name is not replicated")
	}
}
