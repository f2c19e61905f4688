package engine

import (
	"fmt"
	"time"

	"sasyncd/sync/wire"
)

// followerState names what a MASTER sends a member of a group's stream.
type followerState uint8

// States of a follower.
const (
	// followerSnapshot: records of a snapshot are left to be sent.
	followerSnapshot followerState = iota
	// followerSent: the whole snapshot is sent and not acknowledged.
	followerSent
	// followerComplete: the member has said that it holds the whole stream; it is sent
	// changes as they happen.
	followerComplete
)

// String names the state for logs and tests.
func (s followerState) String() string {
	switch s {
	case followerSnapshot:
		return "snapshot"
	case followerSent:
		return "sent"
	case followerComplete:
		return "complete"
	}
	return fmt.Sprintf("follower-%d", uint8(s))
}

// snapWindow is how many records of a snapshot may be unacknowledged, so that
// a snapshot never fills the queue that the deltas need; snapBatch is how many
// travel in one message.
const (
	snapWindow = 2048
	snapBatch  = 128
)

// follower is a MASTER's stream to one member: what was sent on it and what of that the
// member's kernel holds. It is pure. What always holds:
//
//   - cursor is set in the state snapshot and nil in the others;
//   - changes are sent in every state, counters in sent and complete only: a snapshot
//     carries them;
//   - nothing is acknowledged that was not sent;
//   - a member that is to get another snapshot gets another follower.
type follower struct {
	state  followerState
	handle uint32 // by which messages name the stream
	began  time.Time
	cursor *cursor

	sas, policies     uint32 // records of the snapshot that are sent
	ofSAs, ofPolicies uint32 // how many there were when it began
	sent, acked       uint32 // records of all kinds
	ackSeq            uint64
	sentEpoch         uint64 // of counters
	ackEpoch          uint64
	ackAt             time.Time // when something was last acknowledged
	digestAt          time.Time // when sums were last sent
	counters          uint64    // sent
}

// newFollower returns one to which nothing is sent yet: snapshot or resume begins.
func newFollower(handle uint32, now time.Time) *follower {
	return &follower{handle: handle, began: now, ackAt: now}
}

// snapshot begins with all that is published.
func (f *follower) snapshot(p *publisher) *wire.SnapBegin {
	f.state, f.cursor = followerSnapshot, p.snapshot(f.began)
	// What moves while the snapshot is sent may move behind its SA's record.
	f.sentEpoch = p.epoch
	f.ofSAs, f.ofPolicies = uint32(len(f.cursor.sas)), uint32(len(f.cursor.policies))
	return &wire.SnapBegin{Stream: f.handle, ID: p.stream, Seq: p.seq, SAs: f.ofSAs, Policies: f.ofPolicies}
}

// resume begins behind what the member holds, the change of number seq.
func (f *follower) resume(p *publisher, seq uint64) *wire.Resume {
	f.state, f.ackSeq = followerComplete, seq
	return &wire.Resume{Stream: f.handle, ID: p.stream, Seq: seq}
}

// next returns the next message of a snapshot; nil while the window is full, and when
// all is sent.
func (f *follower) next(now time.Time, p *publisher) wire.Message {
	if f.state != followerSnapshot || !f.cursor.done() && f.sent-f.acked >= snapWindow {
		return nil
	}
	recs := p.next(now, f.cursor, snapBatch)
	if len(recs) == 0 { // what was left is gone, or nothing was
		f.state, f.cursor = followerSent, nil
		return &wire.SnapEnd{Stream: f.handle, Seq: p.seq, SAs: f.sas, Policies: f.policies}
	}
	for _, r := range recs {
		if r.Kind == wire.PutSA {
			f.sas++
		} else {
			f.policies++
		}
	}
	return f.batch(p.seq+1, recs)
}

// batch returns the message of some records, the first of which has the number first,
// or would have it.
func (f *follower) batch(first uint64, recs []wire.Record) *wire.Batch {
	f.sent += uint32(len(recs))
	return &wire.Batch{Stream: f.handle, First: first, Records: recs}
}

// ack takes an acknowledgement. It reports ok false for one of what was never sent, and
// first for the one with which the state becomes complete.
func (f *follower) ack(now time.Time, p *publisher, a *wire.Ack) (first, ok bool) {
	if a.Seq > p.seq || a.Epoch > p.epoch || a.Installed-f.acked > f.sent-f.acked {
		return false, false
	}
	f.acked, f.ackSeq, f.ackEpoch, f.ackAt = a.Installed, a.Seq, a.Epoch, now
	if first = a.SnapDone && f.state == followerSent; first {
		f.state = followerComplete
	}
	return first, true
}

// Handle returns the number by which messages name the stream.
func (f *follower) Handle() uint32 { return f.handle }

// Age returns for how long the stream has been sent.
func (f *follower) Age(now time.Time) time.Duration { return now.Sub(f.began) }

// Sent returns how many records and counters were sent.
func (f *follower) Sent() (records, counters uint64) { return uint64(f.sent), f.counters }

// Progress returns how many records are acknowledged, and of how many the snapshot was
// when it began.
func (f *follower) Progress() (acked, of uint64) {
	return uint64(f.acked), uint64(f.ofSAs) + uint64(f.ofPolicies)
}

// takesCounters reports whether counters are sent: a snapshot carries them.
func (f *follower) takesCounters() bool { return f.state != followerSnapshot }

// moved returns the counters that moved since they were last sent. The result is valid
// until the next call, for any follower.
func (f *follower) moved(p *publisher) []wire.CounterEntry {
	entries := p.countersSince(f.sentEpoch)
	f.counters += uint64(len(entries))
	return entries
}

// movedSent notes that all of them were sent.
func (f *follower) movedSent(p *publisher) { f.sentEpoch = p.epoch }

// complete reports whether the member holds a whole snapshot. While another is under
// way it cannot take over. A nil follower is not complete.
func (f *follower) complete() bool { return f != nil && f.state == followerComplete }

// holds reports whether the member has acknowledged the changes up to seq and the
// counters of an epoch.
func (f *follower) holds(epoch, seq uint64) bool { return f.ackEpoch >= epoch && f.ackSeq >= seq }

// digestDue reports whether sums are to be sent, and notes that they are.
func (f *follower) digestDue(now time.Time) bool {
	if f.state != followerComplete || now.Sub(f.digestAt) < digestEvery {
		return false
	}
	f.digestAt = now
	return true
}

// lag returns how old the oldest change is that the member has not acknowledged, or how
// old the counters are that it holds.
func (f *follower) lag(now time.Time, p *publisher) time.Duration {
	if f.state != followerComplete {
		return now.Sub(f.began)
	}
	if next := p.journal.entry(f.ackSeq + 1); next != nil {
		return now.Sub(next.at)
	}
	if f.ackEpoch < f.sentEpoch {
		return now.Sub(f.ackAt)
	}
	return 0
}

// behind returns what the member has not acknowledged: changes, epochs of counters, and
// packets sent since the last epoch that it has.
func (f *follower) behind(p *publisher) (records, epochs, packets uint64) {
	return p.seq - f.ackSeq, p.epoch - f.ackEpoch, p.out - p.outAt(f.ackEpoch)
}

// heardAt returns when the member last acknowledged something; zero before that.
func (f *follower) heardAt() time.Time {
	if f.acked > 0 || f.ackEpoch > 0 || f.state == followerComplete {
		return f.ackAt
	}
	return time.Time{}
}
