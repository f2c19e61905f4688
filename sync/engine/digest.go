package engine

import (
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/wire"
)

// The audit of the stream: the master sends sums over buckets of what it has
// published (not of its kernel, or a deletion that is held back would be undone),
// and a standby at the same place in the stream compares them with what it was
// told. The stream is ordered and complete, so a difference is a defect; it is
// repaired all the same, and counted.

// sendDigest tells a standby the sums at this place of the stream.
func (e *Engine) sendDigest(g *group, m *member, out *replica.Follower, now time.Time) {
	if !out.DigestDue(now) {
		return
	}
	e.send(m, &wire.Digest{Stream: out.Handle(), Seq: g.pub.Seq(), Buckets: g.pub.Sums().List()})
}

// compareDigest asks for the buckets that differ, and for everything if counters
// came that name no SA here: sums do not tell which numbers are known.
func (e *Engine) compareDigest(m *member, g *group, d *wire.Digest) {
	r := g.rcv
	if !r.Pos().Complete || r.Reception().Snapshot() {
		return
	}
	if d.Seq != r.Pos().Seq {
		// The stream is ordered: all up to this number was sent before.
		e.missed(m, g, d.Seq, d.Seq < r.Pos().Seq)
		return
	}
	if len(d.Buckets) != replica.SumBuckets {
		e.refuse(m, "digest of another number of buckets")
		return
	}
	differ := r.Sums().Differing(d.Buckets)
	g.audit.by, g.audit.agreed = m.session.Peer(), len(differ) == 0 && r.Unnamed() == 0
	if g.audit.agreed {
		return
	}
	e.stats.DigestMismatches++
	if r.Unnamed() > 0 {
		e.log.Error("counters came for SAs that this standby does not know by number, asking for everything again",
			"group", g.name, "counters", r.Unnamed())
		r.Reception().WantAll()
		e.follow(g, true)
		return
	}
	e.log.Error("this standby does not know what the master published, asking again", "group", g.name,
		"buckets", len(differ))
	e.send(m, &wire.BucketRequest{Stream: d.Stream, Of: replica.SumBuckets, Buckets: differ})
}

// sendBuckets answers a standby.
func (e *Engine) sendBuckets(m *member, req *wire.BucketRequest) {
	for name, ms := range m.groups {
		g := e.groups[name]
		if ms.out == nil || ms.out.Handle() != req.Stream || g.pub == nil {
			continue
		}
		if req.Of != replica.SumBuckets {
			e.refuse(m, "request for another number of buckets")
			return
		}
		items := g.pub.Buckets(time.Now(), req.Buckets)
		for _, b := range req.Buckets {
			it := items[b]
			for more := true; more; {
				n := min(len(it.Records), replica.BatchRecords)
				more = n < len(it.Records)
				msg := &wire.BucketItems{Stream: req.Stream, Seq: g.pub.Seq(), Of: replica.SumBuckets, Bucket: b,
					More: more, Records: it.Records[:n]}
				if !more {
					msg.Keys = it.Keys
				}
				it.Records = it.Records[n:]
				if !e.send(m, msg) {
					return
				}
				e.pause()
			}
		}
		return
	}
}
