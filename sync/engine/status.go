package engine

import (
	"context"
	"net/netip"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Status is what the engine knows at one moment, for the control socket and
// the metrics. It holds no keys.
type Status struct {
	Node    string         `json:"node"`
	Groups  []GroupStatus  `json:"groups"`
	Members []MemberStatus `json:"members"`
	Counts  Counts         `json:"counts"`
	// What is counted per label, for metrics.
	Traffic   []TrafficCount      `json:"-"`
	Refused   []RefusedCount      `json:"-"`
	Snapshots map[string]uint64   `json:"-"`
	Phases    map[string]Duration `json:"-"`
	Apply     Duration            `json:"-"`
}

// GroupStatus is one group on this node.
type GroupStatus struct {
	Name     string       `json:"name"`
	Role     string       `json:"role"`
	Term     uint64       `json:"term"`
	Since    time.Time    `json:"since"`
	Reason   string       `json:"reason"`
	VIPs     []netip.Addr `json:"vips"`
	InSync   bool         `json:"in_sync"`
	Why      string       `json:"why"` // of InSync
	SAs      int          `json:"sas"`
	Policies int          `json:"policies"`
	Held     int          `json:"held_deletes"`
	// Refused are items that this kernel does not take, Uncovered SAs whose
	// margin cannot be kept; both are lost or need a rekey after a takeover.
	Refused   int `json:"refused"`
	Uncovered int `json:"uncovered"`
	// Offloaded SAs are left out: hardware would reuse their numbers as IVs.
	Offloaded int `json:"offloaded"`
	// Seq is the number of the last delta published or installed, CounterAge
	// the seconds since the master's counters were heard (standby only).
	Seq        uint64  `json:"seq"`
	CounterAge float64 `json:"counter_age_seconds"`
	// CounterAt is when those counters were heard, from the member From; zero
	// and empty on a MASTER.
	CounterAt time.Time `json:"-"`
	From      string    `json:"-"`
	// Lead is by how many packets this standby's outbound counters are ahead of
	// the master's, at least; HasLead is false where there is none.
	Lead    uint64 `json:"-"`
	HasLead bool   `json:"-"`
	// Headroom is for how many seconds the outbound counter that would run out
	// first lasts at its present rate; infinite while nothing is sent.
	Headroom float64 `json:"-"`
	// Audited is the member whose sums of what is published this node compared
	// last, empty for none, Agreed what came of it.
	Audited  string           `json:"-"`
	Agreed   bool             `json:"-"`
	Standbys []StandbyStatus  `json:"standbys"`
	Peers    []GroupPeerState `json:"peers"`
	Keying   KeyingStatus     `json:"keying"`
}

// StandbyStatus is one standby of a group of which this node is MASTER.
type StandbyStatus struct {
	Peer     string  `json:"peer"`
	Complete bool    `json:"complete"`
	Unacked  uint64  `json:"unacked_records"`
	Lag      float64 `json:"lag_seconds"`
	Epochs   uint64  `json:"unacked_counter_epochs"`
	// AckedAt is when it last confirmed something; zero before that.
	AckedAt time.Time `json:"-"`
}

// GroupPeerState is what a member says of a group.
type GroupPeerState struct {
	Peer   string `json:"peer"`
	Role   string `json:"role"`
	Term   uint64 `json:"term"`
	InSync bool   `json:"in_sync"`
}

// MemberStatus is one connected peer.
type MemberStatus struct {
	Node   string    `json:"node"`
	Peer   string    `json:"peer"`
	Kernel string    `json:"kernel"`
	Since  time.Time `json:"since"`
}

// Status returns a picture of the engine.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	var s Status
	err := e.do(ctx, func() { s = e.status(time.Now()) })
	return s, err
}

// Alive reports whether the loop has turned within d, for a watchdog.
func (e *Engine) Alive(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return e.do(ctx, func() {}) == nil
}

// Groups returns what this node tells a peer at the start of a session. It
// never waits for the engine; what changed since is told right afterwards.
func (e *Engine) Groups() []wire.GroupState {
	if p := e.told.Load(); p != nil {
		return *p
	}
	return nil
}

// tellGroups keeps Groups up to date.
func (e *Engine) tellGroups() {
	out := make([]wire.GroupState, 0, len(e.order))
	for _, g := range e.order {
		out = append(out, g.state())
	}
	e.told.Store(&out)
}

func (e *Engine) status(now time.Time) Status {
	s := Status{Node: e.cfg.Node.String(), Counts: e.stats}
	e.seen.copyTo(&s)
	for _, m := range e.sorted() {
		s.Members = append(s.Members, MemberStatus{Node: m.hello.Node.String(), Peer: m.session.Peer(),
			Kernel: m.hello.Kernel, Since: m.since})
	}
	for _, g := range e.order {
		gs := GroupStatus{Name: g.name, Role: g.role.String(), Term: g.term, Since: g.since, Reason: g.reason,
			VIPs: g.vips, InSync: g.told.InSync, Why: g.told.Reason, Held: g.holds.len(), Offloaded: g.offloaded}
		if g.pub != nil {
			gs.SAs, gs.Policies, gs.Seq = len(g.pub.sas), len(g.pub.policies), g.pub.seq
			gs.Headroom = g.pub.headroom
		} else {
			gs.SAs, gs.Policies, gs.Refused, gs.Uncovered = g.rcv.counts()
			gs.Seq = g.rcv.pos.Seq
			if !g.rcv.counters.IsZero() {
				gs.CounterAge, gs.CounterAt = now.Sub(g.rcv.counters).Seconds(), g.rcv.counters
			}
			if g.from != nil {
				gs.From = g.from.session.Peer()
			}
			gs.Lead, gs.HasLead, gs.Headroom = g.rcv.leads()
			gs.Audited, gs.Agreed = g.audited, g.agreed
		}
		for _, m := range e.sorted() {
			ms := m.groups[g.name]
			if ms == nil {
				continue
			}
			gs.Peers = append(gs.Peers, GroupPeerState{Peer: m.session.Peer(),
				Role: ms.state.Role.String(), Term: ms.state.Term, InSync: ms.state.InSync})
			if ms.out != nil && g.pub != nil {
				gs.Standbys = append(gs.Standbys, g.standby(m, ms.out, now))
			}
		}
		if e.cfg.Keying != nil {
			gs.Keying = e.cfg.Keying.Status(g.name)
		}
		s.Groups = append(s.Groups, gs)
	}
	return s
}

// standby tells how far behind a standby is. The lag is the age of the oldest
// delta that it has not acknowledged, or of the counters it holds.
func (g *group) standby(m *member, out *outStream, now time.Time) StandbyStatus {
	st := StandbyStatus{Peer: m.session.Peer(), Complete: out.snapDone,
		Unacked: g.pub.seq - out.ackSeq, Epochs: g.pub.epoch - out.ackEpoch}
	if out.acked > 0 || out.ackEpoch > 0 || out.snapDone {
		st.AckedAt = out.ackAt
	}
	if !out.snapDone {
		st.Lag = now.Sub(out.began).Seconds()
	} else if tail, ok := g.pub.journal.since(out.ackSeq, g.pub.seq); ok && len(tail) > 0 {
		st.Lag = now.Sub(tail[0].at).Seconds()
	} else if out.ackEpoch < out.sentEpoch {
		st.Lag = now.Sub(out.ackAt).Seconds()
	}
	return st
}

// Show returns what the kernel holds of all groups at this moment.
func (e *Engine) Show(ctx context.Context) (*sadb.Snapshot, error) {
	var scopes []scope
	if err := e.do(ctx, func() {
		for _, g := range e.order {
			scopes = append(scopes, g.scope)
		}
	}); err != nil {
		return nil, err
	}
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	out := &sadb.Snapshot{}
	for _, sa := range snap.SAs {
		for _, s := range scopes {
			if _, ok := s.sa(sa); ok {
				out.SAs = append(out.SAs, sa)
				break
			}
		}
	}
	for _, p := range snap.Policies {
		for _, s := range scopes {
			if s.policy(p) {
				out.Policies = append(out.Policies, p)
				break
			}
		}
	}
	return out, nil
}

// Resync makes this node ask for whole snapshots of the groups that it follows.
func (e *Engine) Resync(ctx context.Context) error {
	return e.do(ctx, func() {
		for _, g := range e.order {
			if g.role != wire.RoleMaster {
				g.rcv.pos.Complete = false
				e.follow(g, true)
			}
		}
	})
}
