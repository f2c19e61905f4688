package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// Failover is a change of master as this node saw it.
type Failover struct {
	At time.Time `json:"at"`
	// From and To are names of peers; "this node"; or "" where nobody was.
	From string `json:"from"`
	To   string `json:"to"`
	// Planned: the old master gave way in an orderly manner.
	Planned bool   `json:"planned"`
	Reason  string `json:"reason"`
	// GapSeconds is how long nobody was MASTER, as the new one has measured it: from
	// the last sign of the old one, its fence at a hand-over, until the new one had
	// the virtual addresses and no fence. Where the new one does not tell, it is from
	// the old one's fence to the new one's word.
	GapSeconds float64 `json:"gap_seconds"`
	// Steps are what is known of the way there, in the order of time. They go on after
	// At, until the group is published and its tunnels carry packets.
	Steps []FailoverStep `json:"steps"`
}

// FailoverStep is a step of a failover.
type FailoverStep struct {
	Step  string  `json:"step"`          // one of the Step names
	After float64 `json:"after_seconds"` // the beginning, which is At less the gap
}

// Steps of a failover, in the order in which they usually come. The election's own are
// known if it is carpd's.
const (
	StepHandedOver   = "handed-over"   // the old MASTER's word that this node has the final counters
	StepDecided      = "decided"       // the election takes over
	StepPrepared     = "prepared"      // the kernel is prepared
	StepAddresses    = "addresses"     // the virtual addresses are configured
	StepFence        = "fence"         // the fence is open
	StepCountersSent = "counters-sent" // of the old MASTER: a standby holds its final counters
	StepMaster       = "master"        // the new one is MASTER: the end of the gap
	StepKeying       = "ike"           // the IKE daemon is active
	StepPublished    = "published"     // what the kernel holds is published to the standbys
	StepTraffic      = "traffic"       // a counter of an inbound SA has moved
)

// Slowest returns the step that was waited for longest, and for how long, in seconds;
// "" if there are no steps. Traffic does not count: the remote ends decide when it comes.
func (f Failover) Slowest() (step string, seconds float64) {
	before := 0.0
	for _, s := range f.Steps {
		if d := s.After - before; s.Step != StepTraffic && (step == "" || d > seconds) {
			step, seconds = s.Step, d
		}
		before = max(before, s.After)
	}
	return step, seconds
}

// failoversKept is how many failovers of a group are remembered.
const failoversKept = 10

// Failovers is a memory of the failovers of each group over a restart. Both methods are
// called on the way of a takeover, so they must not wait for a disk.
type Failovers interface {
	Failovers(group string) []Failover
	SetFailovers(group string, list []Failover)
}

// GroupFailovers are the failovers of a group that this node took part in.
type GroupFailovers struct {
	Group string
	Past  []Failover // the latest first, at most 10
}

// Failovers returns those of all groups.
func (e *Engine) Failovers(ctx context.Context) ([]GroupFailovers, error) {
	var out []GroupFailovers
	err := e.do(ctx, func() {
		for _, g := range e.order {
			out = append(out, GroupFailovers{g.name, slices.Clone(g.gap.past)})
		}
	})
	return out, err
}

// ThisNode stands for the node itself in a Failover.
const ThisNode = "this node"

// noteFence notes that the fence is set for a hand-over.
func (g *group) noteFence(now time.Time, term uint64) { g.gap.fencedAt, g.gap.gaveTerm = now, term }

// noteSuccessor notes the first word of this node's successor.
func (e *Engine) noteSuccessor(m *member, g *group, gs wire.GroupState, now time.Time) {
	if g.gap.fencedAt.IsZero() || gs.Role != wire.RoleMaster || gs.Term <= g.gap.gaveTerm {
		return
	}
	gap := now.Sub(g.gap.fencedAt)
	var steps []FailoverStep
	if d := g.leaving.handedAt.Sub(g.gap.fencedAt); d >= 0 {
		steps = []FailoverStep{{StepCountersSent, d.Seconds()}}
	}
	if o := m.groups[g.name].outage; o.Over && o.Term == gs.Term {
		gap = o.Gap
	}
	e.failedOver(g, Failover{At: now, From: ThisNode, To: m.session.Peer(), Planned: true, Reason: gs.Reason,
		GapSeconds: gap.Seconds(), Steps: steps}, nil)
	g.gap.fencedAt = time.Time{}
}

// plannedReasons are what carpd says of a mastership that was given.
var plannedReasons = map[string]bool{"takeover": true, "master resigned": true}

// handedFor is how old a hand-over may be to be the reason of a mastership.
const handedFor = 5 * time.Second

// noteTakeover notes that this node has become MASTER.
func (e *Engine) noteTakeover(g *group, now time.Time, ev ElectorEvent) {
	f := Failover{At: now, To: ThisNode, From: g.gap.heardFrom, Planned: plannedReasons[ev.Reason], Reason: ev.Reason}
	switch {
	case !g.gap.fencedAt.IsZero():
		f.From, f.GapSeconds = ThisNode, now.Sub(g.gap.fencedAt).Seconds()
	case now.Sub(g.gap.handoverAt) < handedFor:
		f.Planned, f.GapSeconds = true, now.Sub(g.gap.silentFrom).Seconds()
	case !g.gap.heardAt.IsZero():
		f.GapSeconds = now.Sub(g.gap.heardAt).Seconds()
	}
	if ev.Measured {
		f.GapSeconds = ev.Gap.Seconds()
	}
	if d := g.gap.handoverAt.Sub(now.Add(-f.gap())); d >= 0 && now.Sub(g.gap.handoverAt) < handedFor {
		f.Steps = append(f.Steps, FailoverStep{StepHandedOver, d.Seconds()})
	}
	f.Steps = append(f.Steps, ev.Steps...)
	g.gap.fencedAt, g.gap.handoverAt = time.Time{}, time.Time{}
	open := []string{StepPublished, StepTraffic}
	if e.cfg.Keying != nil && e.cfg.Keying.Status(g.name).Driver != "" {
		open = append(open, StepKeying)
	}
	e.failedOver(g, f, open)
	if f.From != "" && f.From != ThisNode {
		e.broadcast(&wire.Outage{Group: g.name, Term: g.term, Gap: f.gap(), Over: true})
	}
}

func (f Failover) gap() time.Duration { return time.Duration(f.GapSeconds * float64(time.Second)) }

// failedOver keeps f, whose steps up to the new mastership are known; open are those
// that are to come.
func (e *Engine) failedOver(g *group, f Failover, open []string) {
	f.Steps = append(f.Steps, FailoverStep{StepMaster, f.GapSeconds})
	f.sort()
	g.gap.open = open
	g.gap.past = append([]Failover{f}, g.gap.past[:min(len(g.gap.past), failoversKept-1)]...)
	e.keepFailovers(g)
	e.log.Info("failover", "group", g.name, "from", f.From, "to", f.To, "planned", f.Planned, "reason", f.Reason,
		"gap", f.gap())
}

// stepDone notes a step of the latest failover, unless it is not one that is to come.
func (e *Engine) stepDone(g *group, step string, now time.Time) {
	i := slices.Index(g.gap.open, step)
	if i < 0 || len(g.gap.past) == 0 || g.role != wire.RoleMaster {
		return
	}
	g.gap.open = slices.Delete(slices.Clone(g.gap.open), i, i+1)
	f := g.gap.past[0]
	f.Steps = append(slices.Clone(f.Steps), FailoverStep{step, now.Sub(f.At.Add(-f.gap())).Seconds()})
	f.sort()
	g.gap.past = append([]Failover{f}, g.gap.past[1:]...) // others hold the list of before
	e.keepFailovers(g)
}

func (f *Failover) sort() {
	slices.SortStableFunc(f.Steps, func(a, b FailoverStep) int { return cmp.Compare(a.After, b.After) })
}

func (e *Engine) keepFailovers(g *group) {
	if e.cfg.Failovers != nil {
		e.cfg.Failovers.SetFailovers(g.name, g.gap.past)
	}
}

// last returns the latest failover, nil before the first.
func (g *group) last() *Failover {
	if len(g.gap.past) == 0 {
		return nil
	}
	f := g.gap.past[0]
	return &f
}
