package engine

import (
	"fmt"
	"time"

	"sasyncd/sync/wire"
)

// receptionState names what a standby receives of a group.
type receptionState uint8

// States of a reception.
const (
	// receptionIdle: no stream comes, and no member has been asked for one.
	receptionIdle receptionState = iota
	// receptionAsked: a member has been asked for its stream and has not answered.
	receptionAsked
	// receptionSnapshot: a snapshot comes, and the changes that happen meanwhile.
	receptionSnapshot
	// receptionFollowing: changes come in order, as they happen.
	receptionFollowing
	// receptionClosed: the election is about to make this node MASTER. Whatever
	// comes is dropped, so the stream has to be asked for anew afterwards.
	receptionClosed
)

// String names the state for logs and tests.
func (s receptionState) String() string {
	switch s {
	case receptionIdle:
		return "idle"
	case receptionAsked:
		return "asked"
	case receptionSnapshot:
		return "snapshot"
	case receptionFollowing:
		return "following"
	case receptionClosed:
		return "closed"
	}
	return fmt.Sprintf("reception-%d", uint8(s))
}

const (
	// lagLimit is how far a standby may be behind and still be in sync: as long
	// as it stays in sync without contact.
	lagLimit = contactGrace
	// lagIntervals is the same in intervals of the master's counters, where
	// those are long.
	lagIntervals = 3
	// askAgain is how long the answer to a request may take. A master answers at
	// once, or says its state.
	askAgain = 10 * time.Second
)

// lagBound returns how far a standby may be behind and still be in sync.
func lagBound(interval time.Duration) time.Duration { return max(lagLimit, lagIntervals*interval) }

// Source is a member whose stream may come. Two are the same if they are equal.
type Source interface {
	// Peer returns its name, for logs.
	Peer() string
}

// reception is the one place that says whether a standby receives a stream, and
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
type reception struct {
	state  receptionState
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

// ask notes that m was asked for the stream id. It reports false, and nothing may
// be asked, while the reception is closed.
func (x *reception) ask(m Source, id wire.StreamID, now time.Time) bool {
	if x.state == receptionClosed {
		return false
	}
	if x.id != id {
		x.id, x.known = id, 0
		if x.lost.IsZero() {
			x.lost = now
		}
	}
	x.state, x.from, x.handle, x.asked = receptionAsked, m, 0, now
	return true
}

// bind notes under which handle the stream that was asked for comes.
func (x *reception) bind(handle uint32, now time.Time) { x.handle, x.heard = handle, now }

// begin notes that the stream begins, with a snapshot or behind what is installed.
func (x *reception) begin(snapshot bool) {
	x.state, x.whole, x.lost = receptionFollowing, false, time.Time{}
	if snapshot {
		x.state = receptionSnapshot
	}
}

// end notes that the snapshot is complete.
func (x *reception) end() {
	if x.state == receptionSnapshot {
		x.state = receptionFollowing
	}
}

// miss notes that the master has shown the number seq and that something before
// it has not come. What comes now could not be put in its place.
func (x *reception) miss(seq uint64) {
	x.known = max(x.known, seq)
	if x.state == receptionSnapshot || x.state == receptionFollowing {
		x.state, x.from, x.handle = receptionIdle, nil, 0
	}
}

// lose notes that m is out of reach, or not master any more. What is held is as
// old then as the last word of the stream, if that is long ago.
func (x *reception) lose(m Source, now time.Time) {
	if x.from != m || m == nil {
		return
	}
	if x.lost.IsZero() {
		if x.lost = now; x.silent(now) {
			x.lost = x.heard
		}
	}
	x.from, x.handle = nil, 0
	if x.state != receptionClosed {
		x.state = receptionIdle
	}
}

// close drops what comes from now on.
func (x *reception) close() { x.state, x.handle = receptionClosed, 0 }

// open ends that. The stream has to be asked for, since some of it may have been
// dropped.
func (x *reception) open() {
	if x.state == receptionClosed {
		x.state, x.from = receptionIdle, nil
	}
}

// stop ends the reception: this node is MASTER.
func (x *reception) stop() { *x = reception{interval: x.interval} }

// takes reports whether a message of m under a handle belongs to the stream that
// is received.
func (x *reception) takes(m Source, handle uint32) bool {
	return (x.state == receptionSnapshot || x.state == receptionFollowing) && x.from == m && x.handle == handle
}

// follows reports whether the stream id of m comes or has been asked for.
func (x *reception) follows(m Source, id wire.StreamID) bool {
	return x.state != receptionIdle && x.state != receptionClosed && x.from == m && x.id == id
}

// unanswered reports whether an answer is overdue.
func (x *reception) unanswered(now time.Time) bool {
	return x.state == receptionAsked && now.Sub(x.asked) > askAgain
}

// source returns the member whose stream comes, or came until the reception was
// closed; nil for none.
func (x *reception) source() Source {
	if x.state == receptionAsked {
		return nil
	}
	return x.from
}

// Member returns who was asked or whose stream comes, also while it has been asked again;
// nil for nobody.
func (x *reception) Member() Source { return x.from }

// Handle returns the number by which that member names the stream.
func (x *reception) Handle() uint32 { return x.handle }

// WantsAll reports whether a snapshot is wanted, whatever is installed.
func (x *reception) WantsAll() bool { return x.whole }

// LostFor returns for how long there is no contact with the stream's master. It has no
// meaning while there is.
func (x *reception) LostFor(now time.Time) time.Duration { return now.Sub(x.lost) }

// wantAll has everything asked for anew, whatever is installed.
func (x *reception) wantAll() { x.whole = true }

// hear notes that a message of the stream was taken.
func (x *reception) hear(now time.Time) { x.heard = now }

// stepDown notes that this node was MASTER until now: nobody's stream comes yet.
func (x *reception) stepDown(now time.Time) { x.lost = now }

func (x *reception) snapshot() bool { return x.state == receptionSnapshot }
func (x *reception) closed() bool   { return x.state == receptionClosed }

// silent reports whether nothing has come of the stream for too long.
func (x *reception) silent(now time.Time) bool { return now.Sub(x.heard) > lagBound(x.interval) }

// missing reports whether the master has shown more of the stream than pos.
func (x *reception) missing(pos wire.StreamPos) bool {
	return x.id == pos.StreamID && x.known > pos.Seq
}

// contact reports whether the master of the stream that pos is in is in reach.
func (x *reception) contact(pos wire.StreamPos) bool {
	return x.lost.IsZero() && !x.id.Node.IsZero() && x.id == pos.StreamID
}

// lacks says why a standby in contact whose tables are complete up to pos may be
// behind its master; "" if it is not.
func (x *reception) lacks(pos wire.StreamPos, now time.Time) string {
	switch {
	case x.missing(pos):
		return "missed a change of the master, has asked for it"
	case x.silent(now):
		return fmt.Sprintf("nothing has come of the master's stream for more than %v", lagBound(x.interval))
	}
	return ""
}
