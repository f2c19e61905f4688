package replica

import (
	"fmt"
	"time"

	"sasyncd/sync/wire"
)

// FollowerState names what a MASTER sends a member of a group's stream.
type FollowerState uint8

// States of a follower.
const (
	// FollowerNew: nothing is sent yet.
	FollowerNew FollowerState = iota
	// FollowerSnapshot: records of a snapshot are left to be sent.
	FollowerSnapshot
	// FollowerSent: the whole snapshot is sent and not acknowledged.
	FollowerSent
	// FollowerComplete: the member has said that it holds the whole stream; it is sent
	// changes as they happen.
	FollowerComplete
)

// String names the state for logs and tests.
func (s FollowerState) String() string {
	switch s {
	case FollowerNew:
		return "new"
	case FollowerSnapshot:
		return "snapshot"
	case FollowerSent:
		return "sent"
	case FollowerComplete:
		return "complete"
	}
	return fmt.Sprintf("follower-%d", uint8(s))
}

// snapWindow is how many records of a snapshot may be unacknowledged, so that
// a snapshot never fills the queue that the deltas need; BatchRecords is how many
// travel in one message.
const (
	snapWindow   = 2048
	BatchRecords = 128
)

// Follower is a MASTER's stream to one member: what was sent on it and what of that the
// member's kernel holds. It is pure. What always holds:
//
//   - cursor is set in the state snapshot and nil in the others;
//   - counters are sent in the states sent and complete only: a snapshot carries them;
//   - nothing is acknowledged that was not sent;
//   - a member that is to get another snapshot gets another follower.
type Follower struct {
	state  FollowerState
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

// NewFollower returns one to which nothing is sent yet: snapshot or resume begins.
func NewFollower(handle uint32, now time.Time) *Follower {
	return &Follower{handle: handle, began: now, ackAt: now}
}

// Snapshot begins with all that is published.
func (f *Follower) Snapshot(p *Publisher) *wire.SnapBegin {
	c := p.snapshot(f.began) // may pause
	f.state, f.cursor = FollowerSnapshot, c
	// What moves while the snapshot is sent may move behind its SA's record.
	f.sentEpoch = p.epoch
	f.ofSAs, f.ofPolicies = uint32(len(f.cursor.sas)), uint32(len(f.cursor.policies))
	return &wire.SnapBegin{Stream: f.handle, ID: p.stream, Seq: p.seq, SAs: f.ofSAs, Policies: f.ofPolicies}
}

// Resume begins behind what the member holds, the change of number seq.
func (f *Follower) Resume(p *Publisher, seq uint64) *wire.Resume {
	f.state, f.ackSeq = FollowerComplete, seq
	return &wire.Resume{Stream: f.handle, ID: p.stream, Seq: seq}
}

// Next returns the next message of a snapshot; nil while the window is full, and when
// all is sent.
func (f *Follower) Next(now time.Time, p *Publisher) wire.Message {
	if f.state != FollowerSnapshot || !f.cursor.done() && f.sent-f.acked >= snapWindow {
		return nil
	}
	recs := p.next(now, f.cursor, BatchRecords)
	if len(recs) == 0 { // what was left is gone, or nothing was
		f.state, f.cursor = FollowerSent, nil
		return &wire.SnapEnd{Stream: f.handle, Seq: p.seq, SAs: f.sas, Policies: f.policies}
	}
	for _, r := range recs {
		if r.Kind == wire.PutSA {
			f.sas++
		} else {
			f.policies++
		}
	}
	return f.Batch(p.seq+1, recs)
}

// Batch returns the message of some records, the first of which has the number first,
// or would have it.
func (f *Follower) Batch(first uint64, recs []wire.Record) *wire.Batch {
	f.sent += uint32(len(recs))
	return &wire.Batch{Stream: f.handle, First: first, Records: recs}
}

// Ack takes an acknowledgement. It reports ok false for one of what was never sent, and
// first for the one with which the state becomes complete.
func (f *Follower) Ack(now time.Time, p *Publisher, a *wire.Ack) (first, ok bool) {
	if a.Seq > p.seq || a.Epoch > p.epoch || a.Installed-f.acked > f.sent-f.acked {
		return false, false
	}
	f.acked, f.ackSeq, f.ackEpoch, f.ackAt = a.Installed, a.Seq, a.Epoch, now
	if first = a.SnapDone && f.state == FollowerSent; first {
		f.state = FollowerComplete
	}
	return first, true
}

// Handle returns the number by which messages name the stream.
func (f *Follower) Handle() uint32 { return f.handle }

// Age returns for how long the stream has been sent.
func (f *Follower) Age(now time.Time) time.Duration { return now.Sub(f.began) }

// Sent returns how many records and counters were sent.
func (f *Follower) Sent() (records, counters uint64) { return uint64(f.sent), f.counters }

// Progress returns how many records are acknowledged, and of how many the snapshot was
// when it began.
func (f *Follower) Progress() (acked, of uint64) {
	return uint64(f.acked), uint64(f.ofSAs) + uint64(f.ofPolicies)
}

// Sending reports whether a snapshot is being sent.
func (f *Follower) Sending() bool { return f.state == FollowerSnapshot }

// TakesCounters reports whether counters are sent: a snapshot carries them.
func (f *Follower) TakesCounters() bool {
	return f.state == FollowerSent || f.state == FollowerComplete
}

// Moved returns the counters that moved since they were last sent. The result is valid
// until the next call, for any follower.
func (f *Follower) Moved(p *Publisher) []wire.CounterEntry {
	entries := p.countersSince(f.sentEpoch)
	f.counters += uint64(len(entries))
	return entries
}

// Final returns the message of a fenced MASTER's last counters; nil where none are sent.
// What moved and is not among them goes with a later epoch.
func (f *Follower) Final(p *Publisher, entries []wire.CounterEntry) *wire.Counters {
	if f == nil || !f.TakesCounters() {
		return nil
	}
	f.counters += uint64(len(entries))
	return &wire.Counters{Stream: f.handle, Epoch: p.epoch, Entries: entries}
}

// MovedSent notes that all of them were sent.
func (f *Follower) MovedSent(p *Publisher) { f.sentEpoch = p.epoch }

// Complete reports whether the member holds a whole snapshot. While another is under
// way it cannot take over. A nil follower is not complete.
func (f *Follower) Complete() bool { return f != nil && f.state == FollowerComplete }

// Holds reports whether the member has acknowledged the changes up to seq and the
// counters of an epoch.
func (f *Follower) Holds(epoch, seq uint64) bool { return f.ackEpoch >= epoch && f.ackSeq >= seq }

// DigestDue reports whether sums are to be sent, and notes that they are.
func (f *Follower) DigestDue(now time.Time) bool {
	if f.state != FollowerComplete || now.Sub(f.digestAt) < DigestEvery {
		return false
	}
	f.digestAt = now
	return true
}

// Lag returns how old the oldest change is that the member has not acknowledged, or how
// old the counters are that it holds.
func (f *Follower) Lag(now time.Time, p *Publisher) time.Duration {
	if f.state != FollowerComplete {
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

// Behind returns what the member has not acknowledged: changes, epochs of counters, and
// packets sent since the last epoch that it has.
func (f *Follower) Behind(p *Publisher) (records, epochs, packets uint64) {
	return p.seq - f.ackSeq, p.epoch - f.ackEpoch, p.out - p.outAt(f.ackEpoch)
}

// HeardAt returns when the member last acknowledged something; zero before that.
func (f *Follower) HeardAt() time.Time {
	if f.acked > 0 || f.ackEpoch > 0 || f.state == FollowerComplete {
		return f.ackAt
	}
	return time.Time{}
}
