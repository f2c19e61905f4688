package engine

import (
	"slices"
	"time"

	"sasyncd/sync/wire"
)

// outStream is a stream to one member.
type outStream struct {
	handle            uint32
	cursor            *cursor // non-nil during the snapshot
	snapDone          bool    // acknowledged
	sas, policies     uint32  // snapshot records sent
	sent, acked       uint32  // records
	ackSeq            uint64
	sentEpoch         uint64
	ackEpoch          uint64
	began             time.Time
	ackAt             time.Time
	finishedAt        time.Time
	snapshot          bool
	snapSAs, snapPols uint32
	digestAt          time.Time
	counters          uint64 // entries sent
}

// snapWindow is how many records of a snapshot may be unacknowledged, so that
// a snapshot never fills the queue that the deltas need; snapBatch is how many
// travel in one message.
const (
	snapWindow = 2048
	snapBatch  = 128
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
	if req.Have.Complete && req.Have.StreamID == g.pub.stream {
		if g.pub.journal.reaches(req.Have.Seq, g.pub.seq) {
			e.stats.Resumes++
			out.snapDone, out.ackSeq = true, req.Have.Seq
			e.send(m, &wire.Resume{Stream: out.handle, ID: g.pub.stream, Seq: req.Have.Seq})
			now := time.Now()
			for chunk := range g.pub.journal.after(req.Have.Seq, snapBatch) {
				recs := make([]wire.Record, len(chunk))
				for i, je := range chunk {
					recs[i] = g.pub.recall(now, je.rec)
					recs[i].SentAge = uint64(now.Sub(je.at).Microseconds())
				}
				first := req.Have.Seq + 1
				req.Have.Seq += uint64(len(recs))
				out.sent += uint32(len(recs))
				if !e.send(m, &wire.Batch{Stream: out.handle, First: first, Records: recs}) {
					return
				}
				e.pause()
			}
			e.sendCountersTo(g, m, out, now)
			return
		}
	}
	e.sendSnapshot(g, m, out, wantsSnapshot(req.Have, g.pub.stream))
}

// newStream begins a stream to a member; a former one is over.
func (m *member) newStream(ms *membership) *outStream {
	m.nextOut++
	ms.out = &outStream{handle: m.nextOut, began: time.Now(), ackAt: time.Now()}
	return ms.out
}

// complete reports whether the standby has acknowledged a whole snapshot, and
// none is under way: while one is, it cannot take over.
func (o *outStream) complete() bool { return o != nil && o.cursor == nil && o.snapDone }

// sendSnapshot sends all there is; why is one of the Snapshot names.
func (e *Engine) sendSnapshot(g *group, m *member, out *outStream, why string) {
	e.stats.SnapshotsSent++
	e.seen.snapshots[why]++
	out.snapshot = true
	out.cursor = g.pub.snapshot(out.began)
	// What moves while the snapshot is sent may move behind its SA's record.
	out.sentEpoch = g.pub.epoch
	out.snapSAs, out.snapPols = uint32(len(out.cursor.sas)), uint32(len(out.cursor.policies))
	// Before the standby says so, and before this node may die.
	e.tellReadiness(g, out.began)
	e.log.Info("sending a snapshot", "group", g.name, "peer", m.session.Peer(), "sas", out.snapSAs, "policies", out.snapPols)
	e.send(m, &wire.SnapBegin{Stream: out.handle, ID: g.pub.stream, Seq: g.pub.seq, SAs: out.snapSAs, Policies: out.snapPols})
	e.pump(g, m, out, out.began)
}

// pump sends as much of a snapshot as the window allows.
func (e *Engine) pump(g *group, m *member, out *outStream, now time.Time) {
	for out.cursor != nil && out.sent-out.acked < snapWindow {
		recs := g.pub.next(now, out.cursor, snapBatch)
		for _, r := range recs {
			if r.Kind == wire.PutSA {
				out.sas++
			} else {
				out.policies++
			}
		}
		out.sent += uint32(len(recs))
		if len(recs) > 0 && !e.send(m, &wire.Batch{Stream: out.handle, First: g.pub.seq + 1, Records: recs}) {
			return
		}
		e.pause()
		if out.cursor.done() {
			out.cursor = nil
			e.send(m, &wire.SnapEnd{Stream: out.handle, Seq: g.pub.seq, SAs: out.sas, Policies: out.policies})
		}
	}
}

// publish sends deltas to every standby that follows.
func (e *Engine) publish(g *group, recs []wire.Record) {
	if len(recs) == 0 {
		return
	}
	e.stats.RecordsSent += uint64(len(recs))
	first := g.pub.seq + 1 - uint64(len(recs))
	for _, m := range e.sorted() {
		ms := m.groups[g.name]
		if ms == nil || ms.out == nil {
			continue
		}
		n := first
		for chunk := range slices.Chunk(recs, snapBatch) {
			if ms.out == nil || !e.send(m, &wire.Batch{Stream: ms.out.handle, First: n, Records: chunk}) {
				break
			}
			ms.out.sent += uint32(len(chunk))
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

func (e *Engine) sendCountersTo(g *group, m *member, out *outStream, now time.Time) {
	if out.cursor != nil {
		return // the snapshot carries them
	}
	if m.session.Queued() > counterBacklog {
		return // what moved stays marked; the latest values go when there is room
	}
	entries := g.pub.countersSince(out.sentEpoch)
	e.stats.CountersSent += uint64(len(entries))
	out.counters += uint64(len(entries))
	// The last message is one that is not full. An empty one also says that the
	// master is alive and idle.
	for n := counterBatch; n == counterBatch; {
		n = min(len(entries), counterBatch)
		if !e.send(m, &wire.Counters{Stream: out.handle, Epoch: g.pub.epoch, Entries: entries[:n]}) {
			return
		}
		e.pause()
		entries = entries[n:]
	}
	out.sentEpoch = g.pub.epoch // not before: between two messages the task may be given up
}

// acked notes what a standby's kernel holds.
func (e *Engine) acked(m *member, a *wire.Ack) {
	for name, ms := range m.groups {
		if ms.out == nil || ms.out.handle != a.Stream {
			continue
		}
		out, g := ms.out, e.groups[name]
		if g.pub == nil || a.Seq > g.pub.seq || a.Epoch > g.pub.epoch || a.Installed-out.acked > out.sent-out.acked {
			e.refuse(m, "acknowledged what was never sent")
			return
		}
		now := time.Now()
		out.acked, out.ackSeq, out.ackEpoch, out.ackAt = a.Installed, a.Seq, a.Epoch, now
		if a.SnapDone && !out.snapDone {
			out.snapDone, out.finishedAt = true, now
			e.tellReadiness(g, now)
			e.log.Info("standby is complete", "group", name, "peer", m.session.Peer(), "took", out.finishedAt.Sub(out.began))
		}
		e.pump(g, m, out, now)
		e.advanceHandover(g, now)
		return
	}
}
