package engine

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
)

// raiseAgain is how soon the kernel's tables are read again while a raise is
// not finished.
const raiseAgain = 500 * time.Millisecond

// counterRaise is what a node owes whose outbound SAs another node may have used, or
// may be using: it raises its own counters by its margin and the other's, which is
// configured alike, so that it never sends a number twice should it be promoted
// before it has heard from the other. What bounds the other's is in sync/replica (beyond.go). It is
// owed from the loss of mastership on (see loseMaster), by a standby that misses the
// stream of a new master (see bump), and by one that is to be MASTER and does not know
// what was used (see owedByStandby).
// Until it is done the node is not ready, and the election's question whether it is
// prepared stays unanswered.
type counterRaise struct {
	// pub is what this node published as MASTER, nil for a standby and for a
	// MASTER that published nothing.
	pub *replica.Publisher
	// from is where the counters stood, nil until the kernel has been read. It does
	// not change after that, so that a repetition raises nothing twice.
	from map[sadb.SAKey]uint64
	// unread: SAs that no stream has told are meant as well, so the kernel has to be
	// read for them. Their rates was knows, if it is not nil.
	unread bool
	was    *replica.Receiver
	// untold: only those SAs are meant that the snapshot under way has not told.
	untold bool
	// jumps are what the MASTER had still to raise its counters to: numbers up to
	// there are used, if not by this node.
	jumps map[sadb.SAKey]uint64
}

// owes adds to from what the MASTER still owed.
func (t *counterRaise) owes() {
	for k, v := range t.jumps {
		if used, ok := t.from[k]; ok {
			t.from[k] = max(used, v)
		}
	}
	t.jumps = nil
}

// owedByStandby returns what a standby that is to be MASTER has to raise first, nil for
// nothing: one that has followed no stream since its start, as it does not know what it
// did before it died, and one whose snapshot is not complete, as no counters come while
// a snapshot does. Each is owed once.
func (g *group) owedByStandby() *counterRaise {
	switch pos := g.rcv.Pos(); {
	case pos.Term == 0 && !g.raises.unread:
		g.raises.unread = true
		return &counterRaise{unread: true}
	case pos.Term > g.raises.bumped && !pos.Complete:
		g.raises.bumped = pos.Term
		return &counterRaise{}
	}
	return nil
}

// prepare begins what a node owes that the election has asked whether it is prepared,
// and answers if that is nothing.
func (e *Engine) prepare(ctx context.Context, g *group) {
	if g.promotion.asked != nil && g.pub == nil && g.raising == nil {
		if g.raising = g.owedByStandby(); g.raising != nil {
			e.runNext(g, func() { e.raiseBeyondSuccessor(ctx, g, time.Now()) })
		}
	}
	e.answerPrepare(g)
}

// raiseBeyondSuccessor does what the group owes as far as the kernel allows. The kernel has just
// been read. What it refuses is tried again after the next reading.
func (e *Engine) raiseBeyondSuccessor(ctx context.Context, g *group, now time.Time) {
	t := g.raising
	if t == nil {
		return
	}
	if t.from == nil {
		from := g.rcv.Outbound()
		if t.untold {
			g.rcv.OmitTold(from)
		}
		t.from = from
		t.owes()
		g.noteSent(t)
	}
	e.execAll(ctx, g, g.rcv.RaiseBeyondSuccessor(now, t.from))
	if g.rcv.RaiseBeyondSuccessor(now, t.from).Empty() && (!t.unread || e.raiseUnread(ctx, g, t)) {
		e.raised(ctx, g)
	}
}

// raiseUnread raises the outbound counters of SAs that no stream has told, and
// reports whether all are raised.
func (e *Engine) raiseUnread(ctx context.Context, g *group, t *counterRaise) bool {
	snap, err := e.dumpNow(ctx)
	if err != nil {
		e.log.Error("reading the kernel's tables failed, not ready until it succeeds", "group", g.name, "err", err)
		return false
	}
	ops := g.rcv.RaiseUntold(g.pick(snap).SAs, t.from, t.was)
	done := true
	e.execOwn(ctx, g, ops, func(i int, err error) {
		g.rcv.Result(ops[i], err)
		done = done && (err == nil || errors.Is(err, fs.ErrNotExist))
	})
	return done
}

// raiseAsMaster does it for a node that is MASTER again, on what it publishes.
func (e *Engine) raiseAsMaster(ctx context.Context, g *group, now time.Time) {
	t := g.raising
	if t == nil {
		return
	}
	if t.from == nil {
		t.from = g.pub.Numbers()
		t.owes()
	}
	ops := g.pub.RaiseBeyondSuccessor(now, e.cfg.Margin, t.from)
	done := true
	e.execOwn(ctx, g, ops, func(_ int, err error) { done = done && err == nil })
	if done {
		e.raised(ctx, g)
	}
}

// raised ends a raise.
func (e *Engine) raised(ctx context.Context, g *group) {
	if len(g.raising.from) > 0 {
		e.log.Info("own counters are beyond what another master may have used", "group", g.name, "term", g.term)
	}
	g.raising = nil
	e.prepare(ctx, g)
}

// noteSent remembers what a master had sent at the moment it stopped.
func (g *group) noteSent(t *counterRaise) {
	if t.pub == nil {
		return
	}
	g.used.sent, g.used.sentAs = make(map[sadb.SAKey]uint64), t.pub.Stream()
	for k, oseq := range t.from {
		if g.rcv.Item(); oseq > 0 {
			g.used.sent[k] = oseq
		}
	}
}

// answerPrepare answers the election that asked whether this node is prepared to
// be MASTER, unless something must come first.
func (e *Engine) answerPrepare(g *group) {
	if g.promotion.asked == nil || g.raising != nil || g.work.policyOps > 0 {
		return
	}
	term := *g.promotion.asked
	g.promotion.asked = nil
	e.elector.Prepared(g.name, term)
}
