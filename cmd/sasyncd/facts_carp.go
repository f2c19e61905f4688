package main

import (
	"sync"
	"time"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/judge"
)

const (
	refusalRecent = time.Minute     // for how long a refused advertisement counts
	repairRecent  = 5 * time.Minute // for how long a repair counts
)

// carpOf takes over what carpd says.
func carpOf(s *api.GroupState) *judge.Carp {
	out := &judge.Carp{Group: s.Group, Fenced: s.Fenced, Blocked: s.Blocked, Held: s.Held, Demotion: s.Demotion,
		StateError: s.StateError}
	for _, d := range s.Demotions {
		out.Demotions = append(out.Demotions, d.ID)
	}
	for _, c := range s.Configured {
		out.Configured = append(out.Configured, judge.Configured{Address: c.Address.Addr(), Interface: c.Interface})
	}
	for _, in := range s.Instances {
		x := judge.Instance{Name: in.Name, Interface: in.Interface, Virtual: in.Virtual, Protocol: in.Protocol,
			ID: in.ID, State: in.State}
		for _, r := range in.Routers {
			y := judge.Router{Family: r.Family, Expired: r.Expired, Priority: r.Priority, AdvBase: r.AdvBase,
				AdvSkew: r.AdvSkew, Source: r.Source,
				MAC: r.MAC, Silent: r.Silent}
			for _, c := range r.Claims {
				y.Claims = append(y.Claims, judge.Claim(c))
			}
			if r.Peer.IsValid() && r.HeardMS < r.DownMS && (s.State != api.StateMaster || s.AgeMS > r.DownMS) {
				y.Master = r.Peer // heard since this node became MASTER, if it did
			}
			for _, no := range r.Refusals {
				if time.Duration(no.AgeMS)*time.Millisecond < refusalRecent {
					y.Refusals = append(y.Refusals, judge.Refusal{Kind: no.Kind, Peer: no.Peer, Text: no.Text})
				}
			}
			x.Routers = append(x.Routers, y)
		}
		out.Instances = append(out.Instances, x)
	}
	return out
}

// repairs remembers when carpd's counts of repairs have grown. Safe for concurrent use.
type repairs struct {
	mu     sync.Mutex
	counts map[[2]string]*repairCount // by group and kind
}

// repairCount is what is known of one kind.
type repairCount struct {
	last   uint64 // as carpd counts
	growth []growth
}

type growth struct {
	at time.Time
	by uint64
}

// recent returns what carpd repaired within repairRecent, and what it cannot repair.
func (r *repairs) recent(s *api.GroupState, now time.Time) (out []judge.Repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[[2]string]*repairCount)
	}
	for _, x := range s.Repairs {
		key := [2]string{s.Group, x.Kind}
		c := r.counts[key]
		switch {
		case c == nil:
			c = new(repairCount)
			r.counts[key] = c
			if x.Count > 0 { // carpd tells when the latest was, and not when those before
				c.growth = append(c.growth, growth{now.Add(-time.Duration(x.AgeMS) * time.Millisecond), 1})
			}
		case x.Count > c.last:
			c.growth = append(c.growth, growth{now, x.Count - c.last})
		case x.Count < c.last && x.Count > 0: // carpd was restarted
			c.growth = append(c.growth, growth{now, x.Count})
		}
		c.last = x.Count
		for len(c.growth) > 0 && now.Sub(c.growth[0].at) >= repairRecent {
			c.growth = c.growth[1:]
		}
		y := judge.Repair{Kind: x.Kind, Error: x.Error}
		for _, g := range c.growth {
			y.Count += g.by
		}
		if y.Count > 0 || y.Error != "" {
			out = append(out, y)
		}
	}
	return out
}
