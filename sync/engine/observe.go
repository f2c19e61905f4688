package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"
	"time"

	"sasyncd/sync/wire"
)

// What is counted only to be looked at. All of it belongs to the engine's
// goroutine; Status hands out copies.

// Traffic says what was exchanged with a peer.
type Traffic struct {
	Peer string
	In   bool   // received, else sent
	Kind string // as wire.RecordKind prints, or "counter"
}

// TrafficCount is how often that was.
type TrafficCount struct {
	Traffic
	Count uint64
}

// Refused says which operations the kernel refused.
type Refused struct {
	Op, Errno string
}

// RefusedCount is how often it did.
type RefusedCount struct {
	Refused
	Count uint64
}

// Names of errors that are no errno of the kernel's.
const errnoOther = "other"

func errnoName(err error) string {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return errnoOther
	}
	for name, known := range map[string]syscall.Errno{
		"EEXIST": syscall.EEXIST, "EINVAL": syscall.EINVAL, "ENOBUFS": syscall.ENOBUFS, "ENOENT": syscall.ENOENT,
		"ENOMEM": syscall.ENOMEM,
		"ENOSYS": syscall.ENOSYS, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EPERM": syscall.EPERM,
		"EPROTONOSUPPORT": syscall.EPROTONOSUPPORT,
		"ESRCH":           syscall.ESRCH,
	} {
		if no == known {
			return name
		}
	}
	return errnoOther // few names, so that there are few series
}

// Phases of a change of role that are timed.
const (
	PhasePrepare  = "prepare"  // from the election's question until this node is MASTER
	PhasePublish  = "publish"  // from then until the first reading of the kernel is published
	PhaseHandOver = "handover" // of a MASTER: from the question until a standby holds the final counters
)

// Phases returns all of them.
func Phases() []string { return []string{PhasePrepare, PhasePublish, PhaseHandOver} }

// DurationBounds are the upper bounds of the buckets of a Duration, in seconds.
func DurationBounds() []float64 {
	return []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// Duration is a histogram of durations. Buckets[i] counts those up to the bound
// of the same index, alone (not cumulated).
type Duration struct {
	Buckets [16]uint64 `json:"-"`
	Count   uint64     `json:"count"`
	Sum     float64    `json:"sum_seconds"`
	Last    float64    `json:"last_seconds"`
}

func (d *Duration) add(t time.Duration) {
	s := t.Seconds()
	d.Count++
	d.Sum += s
	d.Last = s
	for i, bound := range DurationBounds() {
		if s <= bound {
			d.Buckets[i]++
			return
		}
	}
}

// observed is what the engine counts per label.
type observed struct {
	traffic   map[Traffic]uint64
	refused   map[Refused]uint64
	snapshots map[string]uint64 // sent, by why
	phases    map[string]*Duration
	apply     Duration
	dump      Duration
}

// Why a snapshot is sent.
const (
	SnapshotFirst = "first" // the standby holds nothing of this group
	SnapshotOther = "other" // it holds another master's stream
	SnapshotAsked = "asked" // an operator wants one sent
	SnapshotGap   = "gap"   // the journal does not reach back as far as it needs
)

func newObserved() observed {
	o := observed{traffic: make(map[Traffic]uint64), refused: make(map[Refused]uint64),
		snapshots: map[string]uint64{SnapshotFirst: 0, SnapshotOther: 0, SnapshotAsked: 0, SnapshotGap: 0},
		phases:    make(map[string]*Duration)}
	for _, p := range Phases() {
		o.phases[p] = new(Duration)
	}
	return o
}

// registerPeer pre-creates a peer's counts, so that its series begin at zero.
func (o *observed) registerPeer(peer string) {
	for _, in := range []bool{false, true} {
		for _, k := range []string{wire.PutSA.String(), wire.DelSA.String(), wire.PutPolicy.String(),
			wire.DelPolicy.String(), counterKind} {
			o.traffic[Traffic{peer, in, k}] += 0
		}
	}
}

const counterKind = "counter"

// count counts the records and counters of a message.
func (o *observed) count(peer string, in bool, m wire.Message) {
	switch m := m.(type) {
	case *wire.Batch:
		var kinds [wire.FlushPolicy + 1]uint64 // one look into the map for each kind
		for i := range m.Records {
			kinds[min(m.Records[i].Kind, wire.FlushPolicy)]++
		}
		for k, n := range kinds {
			if n > 0 {
				o.traffic[Traffic{peer, in, wire.RecordKind(k).String()}] += n
			}
		}
	case *wire.Counters:
		o.traffic[Traffic{peer, in, counterKind}] += uint64(len(m.Entries))
	}
}

// wantsSnapshot says why a standby that holds have needs a snapshot of id.
func wantsSnapshot(have wire.StreamPos, id wire.StreamID) string {
	switch {
	case !have.Complete:
		return SnapshotFirst
	case have.StreamID != id:
		return SnapshotOther
	}
	return SnapshotGap
}

// timed ends a phase that began at *at, if one did.
func (e *Engine) timed(phase string, at *time.Time) {
	if !at.IsZero() {
		e.seen.phases[phase].add(time.Since(*at))
		*at = time.Time{}
	}
}

// copyTo puts the counts into a status, in a fixed order.
func (o *observed) copyTo(s *Status) {
	for k, n := range o.traffic {
		s.Traffic = append(s.Traffic, TrafficCount{k, n})
	}
	slices.SortFunc(s.Traffic, func(a, b TrafficCount) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Kind, b.Kind), cmp.Compare(bit(a.In), bit(b.In)))
	})
	for k, n := range o.refused {
		s.Refused = append(s.Refused, RefusedCount{k, n})
	}
	slices.SortFunc(s.Refused, func(a, b RefusedCount) int {
		return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Errno, b.Errno))
	})
	s.Snapshots, s.Phases, s.Apply = maps.Clone(o.snapshots), make(map[string]Duration, len(o.phases)), o.apply
	s.Dump = o.dump
	for name, d := range o.phases {
		s.Phases[name] = *d
	}
}

// Sample is the little that is worth a look every few seconds. Unlike Status it
// looks at no single SA.
type Sample struct {
	Lag           float64 // of the standby that is furthest behind, or of this one, seconds
	CountersIn    uint64  // counter updates received and sent since the start
	CountersOut   uint64
	Records       uint64 // changes received and sent
	Groups, Ready int    // how many there are, how many are in sync
}

// Sample takes one.
func (e *Engine) Sample(ctx context.Context) (Sample, error) {
	var s Sample
	err := e.do(ctx, func() {
		now := time.Now()
		for _, g := range e.order {
			s.Groups++
			s.Ready += bit(g.ready.reported.InSync)
			if g.pub == nil {
				// The master speaks every interval, so what is beyond that is lag.
				if g.source() != nil && !g.rcv.CountersAt().IsZero() {
					s.Lag = max(s.Lag, (now.Sub(g.rcv.CountersAt()) - e.cfg.Interval).Seconds())
				}
				continue
			}
			for _, m := range e.members {
				if ms := m.groups[g.name]; ms != nil && ms.out != nil {
					s.Lag = max(s.Lag, ms.out.Lag(now, g.pub).Seconds())
				}
			}
		}
		for k, n := range e.seen.traffic {
			switch {
			case k.Kind != counterKind:
				s.Records += n
			case k.In:
				s.CountersIn += n
			default:
				s.CountersOut += n
			}
		}
	})
	return s, err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
