package engine

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/sadb"
)

// Tunnel is what the SAs between two addresses with one reqid have carried, the SAs of
// all generations that there are together. On a standby these are the master's counters.
type Tunnel struct {
	Group  string     `json:"group"`
	Local  netip.Addr `json:"local"`
	Remote netip.Addr `json:"remote"`
	Reqid  uint32     `json:"reqid"`
	SAs    int        `json:"sas"`
	// Counters fall when an SA is deleted.
	PacketsOut uint64 `json:"packets_out"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesOut   uint64 `json:"bytes_out"`
	BytesIn    uint64 `json:"bytes_in"`
	// Last is when a counter was last seen to have moved, to within the interval at
	// which counters are read; zero for never since this node took its role.
	Last time.Time `json:"last_packet,omitzero"`
}

// Tunnels returns at most so many tunnels, those that have carried a packet last first.
// It takes the engine's time in proportion to the number of SAs.
func (e *Engine) Tunnels(ctx context.Context, most int) ([]Tunnel, error) {
	type ends struct {
		group         string
		local, remote netip.Addr
		reqid         uint32
	}
	by := make(map[ends]*Tunnel)
	err := e.do(ctx, func() {
		for _, g := range e.order {
			g.each(func(sa *sadb.SA, moved time.Time) {
				k := ends{g.name, sa.Src, sa.Key.Dst, sa.Reqid}
				if sa.Dir == sadb.DirIn {
					k.local, k.remote = k.remote, k.local
				}
				t := by[k]
				if t == nil {
					t = &Tunnel{Group: k.group, Local: k.local, Remote: k.remote, Reqid: k.reqid}
					by[k] = t
				}
				t.SAs++
				if sa.Dir == sadb.DirIn {
					t.PacketsIn, t.BytesIn = t.PacketsIn+sa.Packets, t.BytesIn+sa.Bytes
				} else {
					t.PacketsOut, t.BytesOut = t.PacketsOut+sa.Packets, t.BytesOut+sa.Bytes
				}
				if moved.After(t.Last) {
					t.Last = moved
				}
			})
		}
	})
	out := make([]Tunnel, 0, len(by))
	for _, t := range by {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Tunnel) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(b.PacketsOut+b.PacketsIn, a.PacketsOut+a.PacketsIn),
			cmp.Compare(a.Group, b.Group), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote),
			cmp.Compare(a.Reqid, b.Reqid))
	})
	return out[:min(most, len(out))], err
}

// LastPackets returns when the counters of each SA were last seen to have moved. SAs of
// which that is not known are left out.
func (e *Engine) LastPackets(ctx context.Context) (map[sadb.SAKey]time.Time, error) {
	out := make(map[sadb.SAKey]time.Time)
	err := e.do(ctx, func() {
		for _, g := range e.order {
			g.each(func(sa *sadb.SA, moved time.Time) {
				if !moved.IsZero() {
					out[sa.Key] = moved
				}
			})
		}
	})
	return out, err
}

// each calls f with each replicated SA of the group.
func (g *group) each(f func(sa *sadb.SA, moved time.Time)) {
	if g.pub != nil {
		g.pub.Each(f)
	} else {
		g.rcv.Each(f)
	}
}
