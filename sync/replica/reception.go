package replica

import (
	"fmt"
	"time"

	"sasyncd/sync/wire"
)

// ReceptionState names what a standby receives of a group.
type ReceptionState uint8

// States of a reception.
const (
	// ReceptionIdle: no stream comes, and no member has been asked for one.
	ReceptionIdle ReceptionState = iota
	// ReceptionAsked: a member has been asked for its stream and has not answered.
	ReceptionAsked
	// ReceptionSnapshot: a snapshot comes, and the changes that happen meanwhile.
	ReceptionSnapshot
	// ReceptionFollowing: changes come in order, as they happen.
	ReceptionFollowing
	// ReceptionClosed: the election is about to make this node MASTER. Whatever
	// comes is dropped, so the stream has to be asked for anew afterwards.
	ReceptionClosed
)

// String names the state for logs and tests.
func (s ReceptionState) String() string {
	switch s {
	case ReceptionIdle:
		return "idle"
	case ReceptionAsked:
		return "asked"
	case ReceptionSnapshot:
		return "snapshot"
	case ReceptionFollowing:
		return "following"
	case ReceptionClosed:
		return "closed"
	}
	return fmt.Sprintf("reception-%d", uint8(s))
}

const (
	// LagLimit is how far a standby may be behind and still be in sync: as long
	// as it stays in sync without contact.
	LagLimit = ContactGrace
	// lagIntervals is the same in intervals of the master's counters, where
	// those are long.
	lagIntervals = 3
	// AskAgain is how long the answer to a request may take. A master answers at
	// once, or says its state.
	AskAgain = 10 * time.Second
)

// LagBound returns how far a standby may be behind and still be in sync.
func LagBound(interval time.Duration) time.Duration { return max(LagLimit, lagIntervals*interval) }

// Source is a member whose stream may come. Two are the same if they are equal.
type Source interface {
	// Peer returns its name, for logs.
	Peer() string
}

// Reception is the one place that says whether a standby receives a stream, and
// which. Only its methods change it. What always holds:
//
//   - messages of a stream are taken in the states snapshot and following only,
//     from the member from, under the handle;
//   - from is nil in the state idle, and set in asked, snapshot and following;
//   - whoever has dropped or missed something leaves those two states, and comes
//     back by asking only;
//   - a MASTER's is idle.
//
// The position in the stream is the receiver's pos.
type Reception struct {
	state  ReceptionState
	from   Source        // who was asked, or whose stream comes
	id     wire.StreamID // the stream asked for last
	handle uint32        // by which from names the stream
	asked  time.Time     // when from was asked
	heard  time.Time     // when a message of the stream was last taken
	// lost is when contact with the stream's master was lost; zero while the
	// session stands and it is master.
	lost time.Time
	// known is the highest number of the stream that its master has shown.
	known uint64
	// whole: a snapshot is wanted, whatever is installed.
	whole    bool
	interval time.Duration // of the master's counters
}

// Ask notes that m was asked for the stream id. It reports false, and nothing may
// be asked, while the reception is closed.
func (x *Reception) Ask(m Source, id wire.StreamID, now time.Time) bool {
	if x.state == ReceptionClosed {
		return false
	}
	if x.id != id {
		x.id, x.known = id, 0
		if x.lost.IsZero() {
			x.lost = now
		}
	}
	x.state, x.from, x.handle, x.asked = ReceptionAsked, m, 0, now
	return true
}

// Bind notes under which handle the stream that was asked for comes.
func (x *Reception) Bind(handle uint32, now time.Time) { x.handle, x.heard = handle, now }

// begin notes that the stream begins, with a snapshot or behind what is installed.
func (x *Reception) begin(snapshot bool) {
	x.state, x.whole, x.lost = ReceptionFollowing, false, time.Time{}
	if snapshot {
		x.state = ReceptionSnapshot
	}
}

// end notes that the snapshot is complete.
func (x *Reception) end() {
	if x.state == ReceptionSnapshot {
		x.state = ReceptionFollowing
	}
}

// Miss notes that the master has shown the number seq and that something before
// it has not come. What comes now could not be put in its place.
func (x *Reception) Miss(seq uint64) {
	x.known = max(x.known, seq)
	if x.state == ReceptionSnapshot || x.state == ReceptionFollowing {
		x.state, x.from, x.handle = ReceptionIdle, nil, 0
	}
}

// Lose notes that m is out of reach, or not master any more. What is held is as
// old then as the last word of the stream, if that is long ago.
func (x *Reception) Lose(m Source, now time.Time) {
	if x.from != m || m == nil {
		return
	}
	if x.lost.IsZero() {
		if x.lost = now; x.silent(now) {
			x.lost = x.heard
		}
	}
	x.from, x.handle = nil, 0
	if x.state != ReceptionClosed {
		x.state = ReceptionIdle
	}
}

// Close drops what comes from now on.
func (x *Reception) Close() { x.state, x.handle = ReceptionClosed, 0 }

// Open ends that. The stream has to be asked for, since some of it may have been
// dropped.
func (x *Reception) Open() {
	if x.state == ReceptionClosed {
		x.state, x.from = ReceptionIdle, nil
	}
}

// Stop ends the reception: this node is MASTER.
func (x *Reception) Stop() { *x = Reception{interval: x.interval} }

// Takes reports whether a message of m under a handle belongs to the stream that
// is received.
func (x *Reception) Takes(m Source, handle uint32) bool {
	return (x.state == ReceptionSnapshot || x.state == ReceptionFollowing) && x.from == m && x.handle == handle
}

// Follows reports whether the stream id of m comes or has been asked for.
func (x *Reception) Follows(m Source, id wire.StreamID) bool {
	return x.state != ReceptionIdle && x.state != ReceptionClosed && x.from == m && x.id == id
}

// Unanswered reports whether an answer is overdue.
func (x *Reception) Unanswered(now time.Time) bool {
	return x.state == ReceptionAsked && now.Sub(x.asked) > AskAgain
}

// Source returns the member whose stream comes, or came until the reception was
// closed; nil for none.
func (x *Reception) Source() Source {
	if x.state == ReceptionAsked {
		return nil
	}
	return x.from
}

// Member returns who was asked or whose stream comes, also while it has been asked again;
// nil for nobody.
func (x *Reception) Member() Source { return x.from }

// Handle returns the number by which that member names the stream.
func (x *Reception) Handle() uint32 { return x.handle }

// WantsAll reports whether a snapshot is wanted, whatever is installed.
func (x *Reception) WantsAll() bool { return x.whole }

// LostFor returns for how long there is no contact with the stream's master. It has no
// meaning while there is.
func (x *Reception) LostFor(now time.Time) time.Duration { return now.Sub(x.lost) }

// WantAll has everything asked for anew, whatever is installed.
func (x *Reception) WantAll() { x.whole = true }

// Hear notes that a message of the stream was taken.
func (x *Reception) Hear(now time.Time) { x.heard = now }

// StepDown notes that this node was MASTER until now: nobody's stream comes yet.
func (x *Reception) StepDown(now time.Time) { x.lost = now }

// Snapshot reports whether a snapshot comes.
func (x *Reception) Snapshot() bool { return x.state == ReceptionSnapshot }

// Closed reports whether whatever comes is dropped, as the election is about to make this
// node MASTER.
func (x *Reception) Closed() bool { return x.state == ReceptionClosed }

// silent reports whether nothing has come of the stream for too long.
func (x *Reception) silent(now time.Time) bool { return now.Sub(x.heard) > LagBound(x.interval) }

// Missing reports whether the master has shown more of the stream than pos.
func (x *Reception) Missing(pos wire.StreamPos) bool {
	return x.id == pos.StreamID && x.known > pos.Seq
}

// Contact reports whether the master of the stream that pos is in is in reach.
func (x *Reception) Contact(pos wire.StreamPos) bool {
	return x.lost.IsZero() && !x.id.Node.IsZero() && x.id == pos.StreamID
}

// Lacks says why a standby in contact whose tables are complete up to pos may be
// behind its master; "" if it is not.
func (x *Reception) Lacks(pos wire.StreamPos, now time.Time) string {
	switch {
	case x.Missing(pos):
		return "missed a change of the master, has asked for it"
	case x.silent(now):
		return fmt.Sprintf("nothing has come of the master's stream for more than %v", LagBound(x.interval))
	}
	return ""
}
