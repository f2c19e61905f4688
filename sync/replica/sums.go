package replica

import (
	"bytes"
	"slices"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// SumBuckets is how many buckets there are: with 100,000 items a bucket to
// repair is a few hundred.
const SumBuckets = 256

// DigestEvery is how often the sums are sent.
const DigestEvery = 5 * time.Second

// Sums are the buckets, kept up to date with every change.
type Sums [SumBuckets]uint64

func (s *Sums) add(p part) { s[p.bucket] += p.fold }

// AddItem adds the digest of an item, by that of its identity.
func (s *Sums) AddItem(key, item wire.Sum) { s.add(partOf(key, item)) }

// List returns the sums in the order of the buckets.
func (s *Sums) List() []uint64 { return slices.Clone(s[:]) }

// Differing returns the buckets of which another node has another sum.
func (s *Sums) Differing(other []uint64) (buckets []uint16) {
	for i, v := range other {
		if v != s[i] {
			buckets = append(buckets, uint16(i))
		}
	}
	return buckets
}

func (s *Sums) remove(p part) { s[p.bucket] -= p.fold }

// part is what one item adds to the sums: the folded digest of its
// configuration, in the bucket of its identity. Both sides keep it for every
// item, so that taking an item out costs no digest.
type part struct {
	fold   uint64
	bucket uint8
}

func partOf(key, item wire.Sum) part {
	return part{item.Fold(), uint8(key.Bucket(SumBuckets))}
}

func partOfSA(sa *sadb.SA) part { return partOf(wire.SAKeyDigest(sa.Key), wire.SADigest(sa)) }

// bucket is what one bucket holds.
type bucket struct {
	Keys    []wire.Sum
	Records []wire.Record
}

// Buckets collects the items of some buckets, policies first.
func (p *Publisher) Buckets(now time.Time, which []uint16) map[uint16]bucket {
	out := make(map[uint16]bucket, len(which))
	for _, b := range which {
		out[b] = bucket{}
	}
	put := func(key wire.Sum, r wire.Record) {
		n := uint16(key.Bucket(SumBuckets))
		if b, ok := out[n]; ok {
			out[n] = bucket{append(b.Keys, key), append(b.Records, r)}
		}
	}
	for k, e := range p.policies {
		if p.Item(); !slices.Contains(which, uint16(e.part.bucket)) {
			continue
		}
		put(wire.PolicyKeyDigest(&k), wire.Record{Kind: wire.PutPolicy, Policy: e.policy})
	}
	for k, e := range p.sas {
		p.Item()
		if n := uint16(e.part.bucket); slices.Contains(which, n) {
			p.age(now, e)
			put(wire.SAKeyDigest(k), wire.Record{Kind: wire.PutSA, Handle: e.handle, SA: e.sa})
		}
	}
	for n, b := range out {
		slices.SortFunc(b.Keys, func(x, y wire.Sum) int {
			p.compared()
			return bytes.Compare(x[:], y[:])
		})
		out[n] = b
	}
	return out
}

// RepairBucket puts what a bucket of the master holds and deletes the rest.
func (r *Receiver) RepairBucket(now time.Time, mono time.Duration, b *wire.BucketItems) []sadb.Op {
	if b.Seq != r.pos.Seq || b.Of != SumBuckets || r.rx.Snapshot() {
		return nil // the stream has moved on; the next digest tells
	}
	var ops []sadb.Op
	for _, rec := range b.Records {
		if rec.Kind == wire.PutSA || rec.Kind == wire.PutPolicy {
			rec.Numbered = false
			ops = append(ops, r.Apply(now, mono, rec)...)
			r.acks.applied--
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
		r.Item()
		if uint16(w.part.bucket) == b.Bucket && !keep[wire.SAKeyDigest(k)] {
			r.forgetSA(k)
			ops = append(ops, sadb.Op{Kind: sadb.OpDeleteSA, SA: &sadb.SA{Key: k}})
		}
	}
	for k, w := range r.wantPolicy {
		r.Item()
		if uint16(w.part.bucket) == b.Bucket && !keep[wire.PolicyKeyDigest(&k)] {
			r.forgetPolicy(k)
			ops = append(ops, sadb.Op{Kind: sadb.OpDeletePolicy, Policy: &sadb.Policy{Key: k}})
		}
	}
	return ops
}

// wants notes a wanted SA and its place in the sums.
func (r *Receiver) wants(k sadb.SAKey, w *wantSA) {
	if old := r.want[k]; old != nil {
		r.sums.remove(old.part)
	}
	w.part = partOfSA(w.sa)
	r.want[k] = w
	r.sums.add(w.part)
}

// forgetSA takes an SA out of what is wanted.
func (r *Receiver) forgetSA(k sadb.SAKey) {
	if w := r.want[k]; w != nil {
		r.sums.remove(w.part)
		delete(r.want, k)
		r.handles.Release(w)
	}
}

// wantsPolicy and forgetPolicy do the same for policies.
func (r *Receiver) wantsPolicy(w *wantPolicy) {
	r.policiesQuiet = false
	r.forgetPolicy(w.policy.Key)
	w.part = partOf(wire.PolicyKeyDigest(&w.policy.Key), wire.PolicyDigest(w.policy))
	r.wantPolicy[w.policy.Key] = w
	r.sums.add(w.part)
}

func (r *Receiver) forgetPolicy(k sadb.PolicyKey) {
	if w := r.wantPolicy[k]; w != nil {
		r.policiesQuiet = false
		r.sums.remove(w.part)
		delete(r.wantPolicy, k)
	}
}
