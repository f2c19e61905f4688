package carp

import (
	"net/netip"
	"time"
)

// Snapshot is the state of a group at one moment, for people and clients.
type Snapshot struct {
	Group     string
	State     State
	Reason    string        // of the latest change of State
	Age       time.Duration // since then
	Term      uint64        // of the latest own mastership
	Seen      uint64        // highest term known
	Fenced    bool          // the fence is set
	Blocked   string        // why the group would not take over now; "" it would
	InSync    bool          // every required client says so
	Loading   bool          // a required client says so
	Demotion  int
	Demotions []Demotion
	Unwilling bool // see Action
	Routers   []RouterSnapshot
}

// RouterSnapshot is the state of a router at one moment.
type RouterSnapshot struct {
	State    State
	Expired  bool  // it would take over, the group does not (yet)
	Priority uint8 // VRRP
	Base     uint8 // CARP, as advertised
	Skew     uint8
	Down     time.Duration
	Master   netip.Addr // last master heard
	Heard    time.Duration
	Sign     time.Duration // since the last advertisement or the resignation of that master
}

// Snapshot describes the group at time now. Heard and Sign are negative where no
// other master was ever heard.
func (g *Group) Snapshot(now time.Duration) Snapshot {
	s := Snapshot{
		Group: g.cfg.Name, State: g.public, Reason: g.reason, Age: now - g.since,
		Term: g.term, Seen: g.seen, Fenced: g.step.phase != phaseMaster, Blocked: g.inhibit.blocked,
		InSync: g.inSync(), Loading: g.loading(),
		Demotion:  g.fit.demotions.sum(),
		Demotions: append([]Demotion(nil), g.fit.demotions...), Unwilling: g.fit.unwilling,
	}
	for _, r := range g.routers {
		rs := RouterSnapshot{
			State: r.state, Expired: r.Expired(), Priority: r.Priority(), Down: r.Down(),
			Master: r.from, Heard: -1, Sign: -1,
		}
		if r.cfg.Proto == CARP {
			rs.Priority, rs.Base, rs.Skew = 0, r.cfg.Base, r.skewNow()
		}
		if r.from.IsValid() {
			rs.Heard, rs.Sign = now-r.heardAt, now-r.signAt
		}
		s.Routers = append(s.Routers, rs)
	}
	return s
}
