package engine

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/scope"
	"sasyncd/sync/wire"
)

// Status is what the engine knows at one moment, for the control socket and
// the metrics. It holds no keys.
type Status struct {
	Node    string         `json:"node"`
	Groups  []GroupStatus  `json:"groups"`
	Members []MemberStatus `json:"members"`
	Counts  Counts         `json:"counts"`
	Local   scope.Local    `json:"-"`
	// What is counted per label, for metrics.
	Traffic   []TrafficCount      `json:"-"`
	Refused   []RefusedCount      `json:"-"`
	Snapshots map[string]uint64   `json:"-"`
	Phases    map[string]Duration `json:"-"`
	Apply     Duration            `json:"-"`
	Dump      Duration            `json:"-"` // of readings of the kernel's tables
}

// GroupStatus is one group on this node.
type GroupStatus struct {
	Name string `json:"name"`
	// Followed and Instances are for who shows a group by another name than the
	// engine's: Followed is that name, Instances are those of the election that move
	// together. The engine leaves both empty.
	Followed  string   `json:"followed"`
	Instances []string `json:"instances"`

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
	// Unlike are items with attributes unknown to this version, which are passed
	// on only between like kernels: on a standby those that it has refused for
	// that, on a MASTER those that a connected standby refuses.
	Unlike int `json:"unlike"`
	// Reduced are SAs that this kernel holds without a NAT keepalive or the number of a CPU,
	// which it does not have.
	Reduced int `json:"reduced"`
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
	// MarginESN and MarginLegacy are the smallest forward margins in packets, for
	// SAs with numbers of 64 and of 32 bits. On a standby, LeadPackets is how far
	// the kernel's outbound counters are ahead of the master's where that is least
	// for its rate, and LeadSeconds how long that lasts at the SA's highest rate;
	// both 0 while no SA carries traffic.
	MarginESN    uint64  `json:"margin_esn_packets"`
	MarginLegacy uint64  `json:"margin_32bit_packets"`
	LeadPackets  uint64  `json:"lead_packets"`
	LeadSeconds  float64 `json:"lead_seconds"`
	// HadSAs: a MASTER has published an SA since it is MASTER, or held one before.
	HadSAs bool `json:"-"`
	// PacketsOut, PacketsIn, BytesOut and BytesIn count what the group's SAs carried since the role
	// was taken, as far as the master's counters are known here.
	PacketsOut uint64 `json:"packets_out"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesOut   uint64 `json:"bytes_out"`
	BytesIn    uint64 `json:"bytes_in"`
	// Following is the peer whose stream this standby receives, "" if none.
	Following string `json:"following"`
	// Complete: a whole snapshot of some master is installed, or this is one.
	Complete bool `json:"complete"`
	// Snapshot is one that is being received.
	Snapshot *Progress `json:"snapshot,omitempty"`
	// LastFailover is the last change of master that this node took part in.
	LastFailover *Failover `json:"last_failover,omitempty"`
}

// Progress is how far a snapshot has come. Of is an estimate.
type Progress struct {
	Peer string `json:"peer"`
	Done uint64 `json:"done"`
	Of   uint64 `json:"of"`
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
	// LagPackets are the packets sent on the group's SAs that the standby does not
	// know of, as of the last reading of the counters; the margin is above them.
	LagPackets uint64 `json:"lag_packets"`
	// InSync: by the standby's own word, and it is not too far behind.
	InSync bool `json:"in_sync"`
	// Queued are the bytes that wait for the peer; Records and Counters what was
	// sent to it on the present stream.
	Queued   int       `json:"queued_bytes"`
	Records  uint64    `json:"records_sent"`
	Counters uint64    `json:"counters_sent"`
	Snapshot *Progress `json:"snapshot,omitempty"` // while one is sent
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
	// Report is what the member last said of itself, for who judges whether a
	// failover would work, and ReportAge how many seconds ago it came; nil if it has
	// not said anything. Tells: it is of a version that does.
	Report    []byte  `json:"-"`
	ReportAge float64 `json:"-"`
	Tells     bool    `json:"-"`
}

// Status returns a picture of the engine. It takes the engine's time in proportion
// to the number of SAs.
func (e *Engine) Status(ctx context.Context) (Status, error) { return e.look(ctx, true) }

// Glance is Status without what takes time: Refused, Uncovered and the lead are
// left out. It may be called often, also during a change of role.
func (e *Engine) Glance(ctx context.Context) (Status, error) { return e.look(ctx, false) }

func (e *Engine) look(ctx context.Context, whole bool) (s Status, err error) {
	err = e.do(ctx, func() { s = e.status(time.Now(), whole) })
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
	if p := e.states.Load(); p != nil {
		return *p
	}
	return nil
}

// updateStates keeps Groups up to date.
func (e *Engine) updateStates() {
	was := e.states.Load()
	same := was != nil
	for i, g := range e.order {
		same = same && sameState((*was)[i], g.state())
	}
	if same {
		return
	}
	out := make([]wire.GroupState, 0, len(e.order))
	for _, g := range e.order {
		out = append(out, g.state())
	}
	e.states.Store(&out)
}

func sameState(a, b wire.GroupState) bool {
	return a.Name == b.Name && a.Role == b.Role && a.Term == b.Term && a.Reason == b.Reason && a.InSync == b.InSync &&
		a.Have == b.Have && slices.Equal(a.VIPs, b.VIPs)
}

func (e *Engine) status(now time.Time, whole bool) Status {
	s := Status{Node: e.cfg.Node.String(), Counts: e.stats, Local: e.dump.local, Groups: []GroupStatus{},
		Members: []MemberStatus{}}
	e.seen.copyTo(&s)
	for _, m := range e.sorted() {
		s.Members = append(s.Members, MemberStatus{Node: m.hello.Node.String(), Peer: m.session.Peer(),
			Kernel: m.hello.Kernel, Since: m.since, Tells: m.hello.Caps&wire.CapReport != 0,
			Report: m.report, ReportAge: now.Sub(m.reported).Seconds()})
	}
	for _, g := range e.order {
		gs := GroupStatus{Name: g.name, Role: g.role.String(), Term: g.term, Since: g.since, Reason: g.reason,
			VIPs: append([]netip.Addr{}, g.own.vips...), Standbys: []StandbyStatus{}, Peers: []GroupPeerState{},
			InSync: g.ready.reported.InSync, Why: g.ready.reported.Reason, Held: g.holds.Len(),
			Offloaded: g.reading.offloaded,
			MarginESN: e.cfg.Margin.ESN, MarginLegacy: e.cfg.Margin.Legacy, LastFailover: g.last()}
		if g.pub != nil {
			gs.SAs, gs.Policies = g.pub.Size()
			gs.Seq = g.pub.Seq()
			gs.Headroom = g.pub.Headroom()
			gs.HadSAs = g.pub.HadSAs() || g.rcv.HadSAs()
			gs.PacketsOut, gs.PacketsIn = g.pub.Packets()
			gs.BytesOut, gs.BytesIn = g.pub.Bytes()
			gs.Complete = true
			if e.standbyOfOtherKernel(g) {
				gs.Unlike = g.pub.Unknown()
			}
		} else {
			gs.SAs, gs.Policies = g.rcv.Size()
			if whole {
				gs.Refused, gs.Uncovered = g.rcv.Lost()
				gs.LeadPackets, gs.LeadSeconds = g.rcv.Lead()
				gs.Unlike, gs.Reduced = g.rcv.RefusedUnknown(), g.rcv.Reduced()
				gs.Lead, gs.HasLead, gs.Headroom = g.rcv.Leads()
			}
			gs.Seq = g.rcv.Pos().Seq
			gs.PacketsOut, gs.PacketsIn = g.rcv.Packets()
			gs.BytesOut, gs.BytesIn = g.rcv.Bytes()
			x := g.rcv.Reception()
			gs.Complete = g.rcv.Whole() && !x.WantsAll()
			if from := x.Member(); from != nil { // also while it has been asked again, as by a resync
				gs.Following, gs.From = from.Peer(), from.Peer()
			}
			if x.Snapshot() {
				gs.Snapshot = &Progress{x.Member().Peer(), g.rcv.Applied(), g.rcv.Expected()}
			}
			if !g.rcv.CountersAt().IsZero() {
				gs.CounterAge, gs.CounterAt = now.Sub(g.rcv.CountersAt()).Seconds(), g.rcv.CountersAt()
			}
			gs.Audited, gs.Agreed = g.audit.by, g.audit.agreed
		}
		for _, m := range e.sorted() {
			ms := m.groups[g.name]
			if ms == nil {
				continue
			}
			gs.Peers = append(gs.Peers, GroupPeerState{Peer: m.session.Peer(),
				Role: ms.state.Role.String(), Term: ms.state.Term, InSync: ms.state.InSync})
			if ms.out != nil && g.pub != nil {
				st := g.standby(m, ms.out, now)
				st.InSync = ms.state.InSync && st.Lag <= replica.LagBound(e.cfg.Interval).Seconds()
				gs.Standbys = append(gs.Standbys, st)
			}
		}
		if e.cfg.Keying != nil {
			gs.Keying = e.cfg.Keying.Status(g.name)
		}
		s.Groups = append(s.Groups, gs)
	}
	return s
}

// standby tells how far behind a standby is.
func (g *group) standby(m *member, out *replica.Follower, now time.Time) StandbyStatus {
	st := StandbyStatus{Peer: m.Peer(), Complete: out.Complete(), Lag: out.Lag(now, g.pub).Seconds(),
		AckedAt: out.HeardAt(), Queued: m.session.Queued()}
	st.Records, st.Counters = out.Sent()
	st.Unacked, st.Epochs, st.LagPackets = out.Behind(g.pub)
	if !st.Complete {
		acked, of := out.Progress()
		st.Snapshot = &Progress{st.Peer, acked, of}
	}
	return st
}

// lags reports whether a standby of this MASTER is too far behind to be in sync,
// whatever it says itself.
func (e *Engine) lags(g *group, m *member, now time.Time) bool {
	ms := m.groups[g.name]
	return g.pub != nil && ms != nil && ms.out != nil && ms.out.Lag(now, g.pub) > replica.LagBound(e.cfg.Interval)
}

// Show returns what the kernel holds of all groups at this moment.
func (e *Engine) Show(ctx context.Context) (*sadb.Snapshot, error) {
	var scopes []scope.Scope
	if err := e.do(ctx, func() {
		for _, g := range e.order {
			scopes = append(scopes, g.own.scope)
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
			if _, ok := s.SA(sa); ok {
				out.SAs = append(out.SAs, sa)
				break
			}
		}
	}
	for _, p := range snap.Policies {
		for _, s := range scopes {
			if s.Policy(p) {
				out.Policies = append(out.Policies, p)
				break
			}
		}
	}
	return out, nil
}
