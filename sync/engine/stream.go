package engine

import (
	"slices"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// request answers a standby: the journal behind what it has, else a snapshot.
func (e *Engine) request(m *member, req *wire.Request) {
	g := e.groups[req.Group]
	ms := m.groups[req.Group]
	if g == nil || ms == nil {
		return
	}
	if g.pub == nil {
		if g.role != wire.RoleMaster {
			e.giveTail(m, g, req.Have)
		}
		e.send(m, &wire.State{GroupState: g.state()}) // also says that this is all
		return
	}
	out := m.newStream(ms)
	if g.pub.Continues(req.Have) {
		e.stats.Resumes++
		e.send(m, out.Resume(g.pub, req.Have.Seq))
		now, first := time.Now(), req.Have.Seq+1
		for recs := range g.pub.After(now, req.Have.Seq) {
			if !e.send(m, out.Batch(first, recs)) {
				return
			}
			first += uint64(len(recs))
			e.pause()
		}
		e.sendCountersTo(g, m, out, now)
		return
	}
	e.sendSnapshot(g, m, out, wantsSnapshot(req.Have, g.pub.Stream()))
}

// newStream begins a stream to a member; a former one is over.
func (m *member) newStream(ms *membership) *replica.Follower {
	m.nextOut++
	ms.out = replica.NewFollower(m.nextOut, time.Now())
	return ms.out
}

// sendSnapshot sends all there is; why is one of the Snapshot names.
func (e *Engine) sendSnapshot(g *group, m *member, out *replica.Follower, why string) {
	e.stats.SnapshotsSent++
	e.seen.snapshots[why]++
	begin := out.Snapshot(g.pub)
	// Before the standby says so, and before this node may die.
	e.reportReadiness(g, time.Now())
	e.log.Info("sending a snapshot", "group", g.name, "peer", m.session.Peer(), "sas", begin.SAs,
		"policies", begin.Policies)
	e.send(m, begin)
	e.pump(g, m, out, time.Now())
}

// pump sends as much of a snapshot as the window allows.
func (e *Engine) pump(g *group, m *member, out *replica.Follower, now time.Time) {
	for msg := out.Next(now, g.pub); msg != nil; msg = out.Next(now, g.pub) {
		if !e.send(m, msg) {
			return
		}
		e.pause()
	}
}

// publish sends deltas to every standby that follows.
func (e *Engine) publish(g *group, recs []wire.Record) {
	if len(recs) == 0 {
		return
	}
	e.stats.RecordsSent += uint64(len(recs))
	first := g.pub.Seq() + 1 - uint64(len(recs))
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.out == nil {
			continue
		}
		n := first
		for chunk := range slices.Chunk(recs, replica.BatchRecords) {
			if ms.out == nil || !e.send(m, ms.out.Batch(n, chunk)) {
				break
			}
			n += uint64(len(chunk))
		}
	}
}

// sendCounters sends the counters that moved to every standby that follows.
func (e *Engine) sendCounters(g *group, now time.Time) {
	for _, m := range e.sorted() {
		if ms := m.groups[g.name]; ms != nil && ms.out != nil {
			out := ms.out
			e.sendCountersTo(g, m, out, now)
			e.sendDigest(g, m, out, now)
		}
	}
}

// counterBatch is how many counters travel in one message, fewer in the last of
// an epoch (which may be none): at most 20 bytes
// each, far below a frame's limit, and one short batch for the standby's
// kernel.
const counterBatch = 1000

// counterBacklog is how many bytes may wait for a peer before its counters are
// held back: they are worth nothing once newer ones exist.
const counterBacklog = 256 << 10

func (e *Engine) sendCountersTo(g *group, m *member, out *replica.Follower, now time.Time) {
	if !out.TakesCounters() {
		return
	}
	if m.session.Queued() > counterBacklog {
		return // what moved stays marked; the latest values go when there is room
	}
	entries := out.Moved(g.pub)
	e.stats.CountersSent += uint64(len(entries))
	// The last message is one that is not full. An empty one also says that the
	// master is alive and idle.
	for n := counterBatch; n == counterBatch; {
		n = min(len(entries), counterBatch)
		if !e.send(m, &wire.Counters{Stream: out.Handle(), Epoch: g.pub.Epoch(), Entries: entries[:n]}) {
			return
		}
		e.pause()
		entries = entries[n:]
	}
	out.MovedSent(g.pub) // not before: between two messages the task may be given up
}

// acked notes what a standby's kernel holds. It goes over no items, so it waits for no
// task; what a snapshot sends next does.
func (e *Engine) acked(m *member, a *wire.Ack) {
	for name, ms := range m.groups {
		if ms.out == nil || ms.out.Handle() != a.Stream {
			continue
		}
		out, g := ms.out, e.groups[name]
		now := time.Now()
		first, ok := false, false
		if g.pub != nil {
			first, ok = out.Ack(now, g.pub, a)
		}
		if !ok {
			e.refuse(m, "acknowledged what was never sent")
			return
		}
		if first {
			e.reportReadiness(g, now)
			e.log.Info("standby is complete", "group", name, "peer", m.session.Peer(), "took", out.Age(now))
		}
		if out.Sending() {
			e.run(g, func() {
				if ms.out == out { // no other stream has begun meanwhile
					e.pump(g, m, out, now)
				}
			})
		}
		e.advanceHandover(g, g.leaving.handover, now)
		return
	}
}
