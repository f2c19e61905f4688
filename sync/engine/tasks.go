package engine

import (
	"context"
	"slices"
	"time"

	"sasyncd/sync/coroutine"
	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// The election is looked at before each turn of the loop, and a turn is short: at
// most replica.TurnOps operations of the kernel, or TurnItems items or TurnLimit of a
// computation. Work that may take longer is a task. It runs on the engine's goroutine
// as a coroutine and yields at the end of each turn (pause).
//
// A group has one task at a time. What else concerns the group's stream waits
// behind it, in the order in which it came: messages of peers, changes of the
// kernel's tables, readings, the tick. So a task sees between two of its turns no
// change but those that the election makes:
//
//   - A question whether this node is prepared to be MASTER is answered between two
//     turns, unless a raise or policies that are to be installed come first.
//     From the answer on this node may be sending, so of the operations that are
//     left those that add something are carried out, and the others dropped: a
//     counter could be lowered, and what is deleted could be in use. A counter
//     message or a raise that is dropped leaves a lead that is one interval old,
//     which the margin allows for four times over; what else is dropped the next
//     reading repairs, or as MASTER nobody.
//   - A promotion waits with all it does itself (promote) until the task has ended,
//     so that the first reading of a master shows what was still to be added.
//   - A loss of mastership ends the task at once; what it published is sent, as no
//     task pauses with a number given and its record not sent. Deletions that are
//     being forwarded (forwardDue) are all sent first, without a pause. The first
//     that follows is the raise. Until it is done the node is not ready.
//   - A hand-over gives up a reading that is being published, as it reads the
//     tables itself, and waits for any other task.

// task is work on a group that has begun.
type task struct {
	on      *coroutine.Coroutine
	waiting bool // for something else than its turn
	role    Role // of the group when it began
}

// run has f carried out as a task of the group, at once if there is none.
func (e *Engine) run(g *group, f func()) {
	g.work.waiting = append(g.work.waiting, f)
	if g.work.task == nil {
		e.step(g)
	}
}

// runNext is run for what goes before all that waits.
func (e *Engine) runNext(g *group, f func()) {
	g.work.waiting = slices.Insert(g.work.waiting, 0, f)
	if g.work.task == nil {
		e.step(g)
	}
}

// step gives the group's task a turn.
func (e *Engine) step(g *group) {
	t := g.work.task
	if t == nil {
		f := g.work.waiting[0]
		g.work.waiting[0] = nil
		if g.work.waiting = g.work.waiting[1:]; len(g.work.waiting) == 0 {
			g.work.waiting = nil
		}
		t = &task{role: g.role, on: e.begin(f)}
		g.work.task = t
	}
	outer := e.turns.task
	e.turns.task, e.turns.began = t, time.Now()
	ended := t.on.Turn()
	e.turns.task = outer
	if !ended {
		return
	}
	e.release(t.on)
	if g.work.task == t {
		g.work.task = nil
	}
}

// late reports whether the turn under way has taken turnLimit.
func (e *Engine) late() bool {
	return e.turns.task != nil && time.Since(e.turns.began) >= replica.TurnLimit
}

// pause ends a turn of the task that calls it. Elsewhere it does nothing.
func (e *Engine) pause() {
	if t := e.turns.task; t != nil {
		t.on.Pause()
	}
}

// giveUp ends the group's task where it has paused, unless it is the one that asks,
// and does at once what the task may not leave half done.
func (e *Engine) giveUp(g *group) {
	t := g.work.task
	if t == nil || t == e.turns.task {
		return
	}
	finish := g.work.finish
	g.work.task, g.work.policyOps, g.work.publishing, g.work.finish = nil, 0, false, nil
	t.on.GiveUp()
	e.release(t.on)
	if finish != nil {
		finish()
	}
}

// begin returns a coroutine that carries out f from its next turn on. While Run serves,
// one that has ended its function is kept for the next: most tasks end within their
// first turn, and making a coroutine costs more than they do.
func (e *Engine) begin(f func()) *coroutine.Coroutine {
	var c *coroutine.Coroutine
	if last := len(e.turns.idle) - 1; last >= 0 {
		c, e.turns.idle = e.turns.idle[last], e.turns.idle[:last]
	} else {
		c = coroutine.New()
	}
	c.Begin(f)
	return c
}

// release keeps a coroutine that has ended its function while Run serves, and ends it
// otherwise.
func (e *Engine) release(c *coroutine.Coroutine) {
	if !e.turns.serving {
		c.Stop()
		return
	}
	e.turns.idle = append(e.turns.idle, c)
}

// endCoroutines ends all tasks where they have paused, and what carried them out.
func (e *Engine) endCoroutines() {
	e.turns.serving = false
	for _, g := range e.order {
		e.giveUp(g)
	}
	for _, c := range e.turns.idle {
		c.Stop()
	}
	e.turns.idle = nil
}

// busy returns a group with a task that can go on, each in turn, nil for none.
func (e *Engine) busy() *group {
	for i := range e.order {
		g := e.order[(e.turns.last+1+i)%len(e.order)]
		if g.work.task != nil && !g.work.task.waiting || g.work.task == nil && len(g.work.waiting) > 0 {
			return g
		}
	}
	return nil
}

// turn gives the next group that has work a turn.
func (e *Engine) turn() {
	if g := e.busy(); g != nil {
		e.turns.last = slices.Index(e.order, g)
		e.step(g)
	}
}

// mostTasks bounds what waits behind a task. Then peers and the kernel wait.
const mostTasks = 256

func (e *Engine) crowded() bool {
	return slices.ContainsFunc(e.order, func(g *group) bool { return len(g.work.waiting) >= mostTasks })
}

// await has f carried out beside the engine and waits for it: a task while other
// work goes on.
func (e *Engine) await(ctx context.Context, f func()) {
	t := e.turns.task
	if t == nil {
		f()
		return
	}
	t.waiting = true
	go func() {
		f()
		_ = e.do(ctx, func() { t.waiting = false }) // fails when the engine has ended
	}()
	for t.waiting {
		e.pause()
	}
}

// sending reports whether this node may be sending on the group's SAs, or be about
// to: it is MASTER, or the election has been told that it is prepared.
func (g *group) sending() bool {
	return g.role == wire.RoleMaster || g.rcv.Reception().Closed() && g.promotion.asked == nil
}

// additions returns those operations that a node which is sending may still carry
// out for a standby.
func additions(ops []sadb.Op) []sadb.Op {
	return slices.DeleteFunc(slices.Clone(ops), func(op sadb.Op) bool {
		return op.Kind != sadb.OpAddSA && op.Kind != sadb.OpAddPolicy && op.Kind != sadb.OpUpdatePolicy
	})
}

// setsPolicy reports whether an operation installs a policy. Without it what the
// policy protects would leave in plaintext.
func setsPolicy(op sadb.Op) bool {
	return op.Kind == sadb.OpAddPolicy || op.Kind == sadb.OpUpdatePolicy
}

// exec is execAll for a few operations.
func (e *Engine) exec(ctx context.Context, g *group, ops []sadb.Op) int {
	return e.execAll(ctx, g, replica.OpList{ops})
}

// execAll carries out operations for a standby group, in turns, retrying what the
// receiver wants retried, and returns how many were carried out.
func (e *Engine) execAll(ctx context.Context, g *group, ops replica.OpList) int {
	role := g.role
	if e.turns.task != nil {
		role = e.turns.task.role
	}
	for _, block := range ops {
		for _, op := range block {
			if setsPolicy(op) {
				g.work.policyOps++
			}
		}
	}
	n := 0
	for round, only := 0, false; !ops.Empty() && round < 3; round++ {
		var again replica.OpList
		for chunk := ops.Next(replica.TurnOps); chunk != nil; chunk = ops.Next(replica.TurnOps) {
			// The end of a stream, which a new master takes from another standby, is
			// carried out by a MASTER as a whole.
			if only = only || role != wire.RoleMaster && g.sending(); only {
				if chunk = additions(chunk); len(chunk) == 0 {
					continue
				}
			}
			for i, err := range e.apply(ctx, chunk) {
				op := chunk[i]
				g.touchOp(e.dump.running, op)
				n++
				if round == 0 && setsPolicy(op) {
					g.work.policyOps--
				}
				before := g.rcv.RefusedBefore(op, err)
				retry, unknown := g.rcv.Result(op, err)
				again.Add(retry...)
				if op.Kind == sadb.OpSetCounters {
					e.stats.Repairs += uint64(len(retry)) // the SA was gone
				}
				switch {
				case unknown:
					e.lookForHidden(ctx, g)
				case err != nil && retry == nil && before: // it has been logged
					g.work.again++
					e.countRefused(op, err)
				case err != nil && retry == nil:
					e.kernelError(g, op, err)
				}
			}
			e.answerPrepare(g)
			if !ops.Empty() || !again.Empty() {
				e.pause()
			}
		}
		ops = again
	}
	g.rcv.CarriedOut()
	return n
}

// lookForHidden reads the tables, as the kernel has what they were not known to hold: at
// once, unless the last reading has not shown it.
func (e *Engine) lookForHidden(ctx context.Context, g *group) {
	g.reading.hidden.met = true
	switch {
	case g.reading.hidden.pause == 0:
		e.requestDump(ctx)
	case g.reading.foreign.IsZero():
		g.reading.foreign = time.Now().Add(g.reading.hidden.pause)
	}
}

// execOwn carries out operations of a MASTER, in turns, and hands each result to
// done.
func (e *Engine) execOwn(ctx context.Context, g *group, ops []sadb.Op, done func(i int, err error)) {
	for first := 0; first < len(ops); first += replica.TurnOps {
		if first > 0 {
			e.pause()
		}
		for i, err := range e.apply(ctx, ops[first:min(first+replica.TurnOps, len(ops))]) {
			g.touchOp(e.dump.running, ops[first+i])
			if err != nil {
				e.kernelError(g, ops[first+i], err)
			}
			done(first+i, err)
		}
	}
}
