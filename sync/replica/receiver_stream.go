package replica

import (
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// Where a receiver stands in the stream of its master, and what it answers.

// mostExpected bounds the room that is made on a master's word; growing the maps
// step by step costs more than all that is put into them.
const mostExpected = 1 << 17

// BeginSnapshot begins a snapshot of a stream, of about n SAs and some policies. What is
// installed stays until the snapshot is complete.
func (r *Receiver) BeginSnapshot(id wire.StreamID, seq uint64, n, policies uint32) {
	r.handles.enter(id, n)
	if len(r.want) == 0 {
		r.want = make(map[sadb.SAKey]*wantSA, min(n, mostExpected))
	}
	if len(r.have) == 0 {
		r.have = make(map[sadb.SAKey]*haveSA, min(n, mostExpected))
	}
	if len(r.wantPolicy) == 0 {
		r.wantPolicy = make(map[sadb.PolicyKey]*wantPolicy, min(policies, mostExpected))
	}
	if len(r.havePolicy) == 0 {
		r.havePolicy = make(map[sadb.PolicyKey]wire.Sum, min(policies, mostExpected))
	}
	// Whoever held all of this stream up to here still does: what changes from
	// now on comes as it happens, the snapshot between. So a standby that checks
	// itself anew can take over at any moment, but for one that lacked counters.
	held := r.unnamed == 0 && r.pos.Complete && r.pos.StreamID == id && r.pos.Seq == seq
	if !held {
		r.tail.forget()
	}
	r.acks.applied, r.acks.answered, r.acks.seq = 0, 0, seq
	r.pos = wire.StreamPos{StreamID: id, Seq: seq, Complete: held}
	r.snap.gen++
	r.rx.begin(true)
	r.snap.records, r.snap.expected, r.epoch, r.unnamed = 0, uint64(n)+uint64(policies), 0, 0
}

// Resume continues a stream from where it stood.
func (r *Receiver) Resume(seq uint64) {
	r.rx.begin(false)
	r.pos.Seq, r.unnamed = seq, 0 // all counters come behind it
	r.acks.applied, r.acks.answered, r.acks.seq = 0, 0, seq
}

// AnswerEvery is for how many records of a snapshot there is one answer: a
// quarter of the master's window, so that it never has to wait for one.
const AnswerEvery = snapWindow / 4

// OwesAnswer reports whether the master should hear now what was applied. Changes
// are answered at once, since lag and hand-overs follow them. A snapshot has none
// until its end, and answers to each message would cost both sides a good part of
// what its records do; what it leaves over is answered by the next tick, for a
// master whose window is smaller.
func (r *Receiver) OwesAnswer() bool {
	return !r.rx.Snapshot() || r.pos.Seq != r.acks.seq || r.acks.applied-r.acks.answered >= AnswerEvery
}

// SetPos makes the receiver one of a node that was MASTER until now, of the stream that
// it published up to pos.
func (r *Receiver) SetPos(pos wire.StreamPos) { r.pos = pos }

// Answer returns what the master is told of what the kernel holds.
func (r *Receiver) Answer(handle uint32) *wire.Ack {
	r.acks.answered, r.acks.seq = r.acks.applied, r.pos.Seq
	return &wire.Ack{Stream: handle, Seq: r.pos.Seq, Epoch: r.epoch, SnapDone: r.Whole(),
		Installed: uint32(r.acks.applied)}
}

// Unanswered reports whether something was applied since the last answer.
func (r *Receiver) Unanswered() bool { return r.acks.applied != r.acks.answered }

// EndEpoch notes that all counters of an epoch are set.
func (r *Receiver) EndEpoch(epoch uint64) { r.epoch = max(r.epoch, epoch) }
