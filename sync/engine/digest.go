package engine

import (
	"bytes"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// The audit of the stream: the master sends sums over buckets of what it has
// published (not of its kernel, or a deletion that is held back would be undone),
// and a standby at the same place in the stream compares them with what it was
// told. The stream is ordered and complete, so a difference is a defect; it is
// repaired all the same, and counted.

// digestBuckets is how many buckets there are: with 100,000 items a bucket to
// repair is a few hundred.
const digestBuckets = 256

// digestEvery is how often the sums are sent.
const digestEvery = 5 * time.Second

// sums are the buckets, kept up to date with every change.
type sums [digestBuckets]uint64

func (s *sums) add(p part) { s[p.bucket] += p.fold }

// addItem adds the digest of an item, by that of its identity.
func (s *sums) addItem(key, item wire.Sum) { s.add(partOf(key, item)) }

// list returns the sums in the order of the buckets.
func (s *sums) list() []uint64 { return slices.Clone(s[:]) }

// differing returns the buckets of which another node has another sum.
func (s *sums) differing(other []uint64) (buckets []uint16) {
	for i, v := range other {
		if v != s[i] {
			buckets = append(buckets, uint16(i))
		}
	}
	return buckets
}

func (s *sums) remove(p part) { s[p.bucket] -= p.fold }

// part is what one item adds to the sums: the folded digest of its
// configuration, in the bucket of its identity. Both sides keep it for every
// item, so that taking an item out costs no digest.
type part struct {
	fold   uint64
	bucket uint8
}

func partOf(key, item wire.Sum) part {
	return part{item.Fold(), uint8(key.Bucket(digestBuckets))}
}

func partOfSA(sa *sadb.SA) part { return partOf(wire.SAKeyDigest(sa.Key), wire.SADigest(sa)) }

// sendDigest tells a standby the sums at this place of the stream.
func (e *Engine) sendDigest(g *group, m *member, out *follower, now time.Time) {
	if !out.digestDue(now) {
		return
	}
	e.send(m, &wire.Digest{Stream: out.Handle(), Seq: g.pub.Seq(), Buckets: g.pub.Sums().list()})
}

// compareDigest asks for the buckets that differ, and for everything if counters
// came that name no SA here: sums do not tell which numbers are known.
func (e *Engine) compareDigest(m *member, g *group, d *wire.Digest) {
	r := g.rcv
	if !r.Pos().Complete || r.Rx().snapshot() {
		return
	}
	if d.Seq != r.Pos().Seq {
		// The stream is ordered: all up to this number was sent before.
		e.missed(m, g, d.Seq, d.Seq < r.Pos().Seq)
		return
	}
	if len(d.Buckets) != digestBuckets {
		e.refuse(m, "digest of another number of buckets")
		return
	}
	differ := r.Sums().differing(d.Buckets)
	g.audited, g.agreed = m.session.Peer(), len(differ) == 0 && r.Unnamed() == 0
	if g.agreed {
		return
	}
	e.stats.DigestMismatches++
	if r.Unnamed() > 0 {
		e.log.Error("counters came for SAs that this standby does not know by number, asking for everything again", "group", g.name, "counters", r.Unnamed())
		r.Rx().wantAll()
		e.follow(g, true)
		return
	}
	e.log.Error("this standby does not know what the master published, asking again", "group", g.name, "buckets", len(differ))
	e.send(m, &wire.BucketRequest{Stream: d.Stream, Of: digestBuckets, Buckets: differ})
}

// sendBuckets answers a standby.
func (e *Engine) sendBuckets(m *member, req *wire.BucketRequest) {
	for name, ms := range m.groups {
		g := e.groups[name]
		if ms.out == nil || ms.out.Handle() != req.Stream || g.pub == nil {
			continue
		}
		if req.Of != digestBuckets {
			e.refuse(m, "request for another number of buckets")
			return
		}
		items := g.pub.buckets(time.Now(), req.Buckets)
		for _, b := range req.Buckets {
			it := items[b]
			for more := true; more; {
				n := min(len(it.records), snapBatch)
				more = n < len(it.records)
				msg := &wire.BucketItems{Stream: req.Stream, Seq: g.pub.Seq(), Of: digestBuckets, Bucket: b, More: more, Records: it.records[:n]}
				if !more {
					msg.Keys = it.keys
				}
				it.records = it.records[n:]
				if !e.send(m, msg) {
					return
				}
				e.pause()
			}
		}
		return
	}
}

// bucket is what one bucket holds.
type bucket struct {
	keys    []wire.Sum
	records []wire.Record
}

// buckets collects the items of some buckets, policies first.
func (p *publisher) buckets(now time.Time, which []uint16) map[uint16]bucket {
	out := make(map[uint16]bucket, len(which))
	for _, b := range which {
		out[b] = bucket{}
	}
	put := func(key wire.Sum, r wire.Record) {
		n := uint16(key.Bucket(digestBuckets))
		if b, ok := out[n]; ok {
			out[n] = bucket{append(b.keys, key), append(b.records, r)}
		}
	}
	for k, e := range p.policies {
		if p.item(); !slices.Contains(which, uint16(e.part.bucket)) {
			continue
		}
		put(wire.PolicyKeyDigest(&k), wire.Record{Kind: wire.PutPolicy, Policy: e.policy})
	}
	for k, e := range p.sas {
		p.item()
		if n := uint16(e.part.bucket); slices.Contains(which, n) {
			p.age(now, e)
			put(wire.SAKeyDigest(k), wire.Record{Kind: wire.PutSA, Handle: e.handle, SA: e.sa})
		}
	}
	for n, b := range out {
		slices.SortFunc(b.keys, func(x, y wire.Sum) int {
			p.compared()
			return bytes.Compare(x[:], y[:])
		})
		out[n] = b
	}
	return out
}

// repairBucket puts what a bucket of the master holds and deletes the rest.
func (r *receiver) repairBucket(now time.Time, mono time.Duration, b *wire.BucketItems) []sadb.Op {
	if b.Seq != r.pos.Seq || b.Of != digestBuckets || r.rx.snapshot() {
		return nil // the stream has moved on; the next digest tells
	}
	var ops []sadb.Op
	for _, rec := range b.Records {
		if rec.Kind == wire.PutSA || rec.Kind == wire.PutPolicy {
			rec.Numbered = false
			ops = append(ops, r.apply(now, mono, rec)...)
			r.applied--
		}
	}
	if b.More {
		return ops
	}
	keep := make(map[wire.Sum]bool, len(b.Keys))
	for _, k := range b.Keys {
		keep[k] = true
	}
	for k, w := range r.want {
		r.item()
		if uint16(w.part.bucket) == b.Bucket && !keep[wire.SAKeyDigest(k)] {
			r.forgetSA(k)
			ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: k}})
		}
	}
	for k, w := range r.wantPolicy {
		r.item()
		if uint16(w.part.bucket) == b.Bucket && !keep[wire.PolicyKeyDigest(&k)] {
			r.forgetPolicy(k)
			ops = append(ops, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: &sadb.Policy{Key: k}})
		}
	}
	return ops
}

// wants notes a wanted SA and its place in the sums.
func (r *receiver) wants(k sadb.SAKey, w *wantSA) {
	if old := r.want[k]; old != nil {
		r.sums.remove(old.part)
	}
	w.part = partOfSA(w.sa)
	r.want[k] = w
	r.sums.add(w.part)
}

// forgetSA takes an SA out of what is wanted.
func (r *receiver) forgetSA(k sadb.SAKey) {
	if w := r.want[k]; w != nil {
		r.sums.remove(w.part)
		delete(r.want, k)
		r.handles.release(w)
	}
}

// wantsPolicy and forgetPolicy do the same for policies.
func (r *receiver) wantsPolicy(w *wantPolicy) {
	r.forgetPolicy(w.policy.Key)
	w.part = partOf(wire.PolicyKeyDigest(&w.policy.Key), wire.PolicyDigest(w.policy))
	r.wantPolicy[w.policy.Key] = w
	r.sums.add(w.part)
}

func (r *receiver) forgetPolicy(k sadb.PolicyKey) {
	if w := r.wantPolicy[k]; w != nil {
		r.sums.remove(w.part)
		delete(r.wantPolicy, k)
	}
}
