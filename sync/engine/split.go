package engine

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// After a split, two nodes may have sent on the same SAs. Whoever yields tells
// the survivor the highest numbers it has used, and the survivor jumps above
// them: the remote end's window follows the highest number it has seen, so
// everything below would be refused from then on.

// maximaBatch is how many entries travel in one message.
const maximaBatch = 1000

// tellMaxima sends the master what this node's outbound SAs have sent, or may
// have sent when this process does not know. It goes before the Request for the
// master's stream, in the same session, so whoever answers that has heard it. Until
// then it is said again with each Request.
func (e *Engine) tellMaxima(g *group, m *member) {
	sent, id := g.used.sent, g.used.sentAs
	if sent == nil {
		if g.rcv.Pos().Term != 0 {
			return // a standby's counters are ahead by the margin, not by use
		}
		sent, id = g.rcv.Outbound(), wire.StreamID{Group: g.name}
	}
	g.used.saidAs = id
	entries := make([]wire.Maximum, 0, min(len(sent), maximaBatch))
	for k, v := range sent {
		if g.rcv.Item(); v == 0 {
			continue
		}
		entries = append(entries, wire.Maximum{Key: k, OSeq: v})
		if len(entries) == maximaBatch {
			e.send(m, &wire.Maxima{ID: id, Entries: entries})
			entries = make([]wire.Maximum, 0, maximaBatch)
		}
	}
	e.send(m, &wire.Maxima{ID: id, Last: true, Entries: entries})
}

// maxima raises a master's own outbound counters above what another node has
// sent on the same SAs. A node that knows names the stream under which it
// sent; one that was restarted reports what its kernel holds, which is ahead
// by up to three margins without having been sent.
func (e *Engine) maxima(ctx context.Context, m *member, msg *wire.Maxima) {
	g := e.groups[msg.ID.Group]
	if g == nil || g.pub == nil {
		return
	}
	if msg.ID == g.pub.Stream() {
		e.standbyBeyond(ctx, m, g, msg.Entries)
		return
	}
	known := msg.ID.Node == m.hello.Node
	var higher uint64
	for _, x := range msg.Entries {
		sa := g.pub.SA(x.Key)
		if sa == nil || sa.Dir == sadb.DirIn {
			continue
		}
		lead, _ := e.cfg.Margin.Lead(sa.ESN(), 0, 0)
		if own := g.used.jumps.Position(sa); x.OSeq <= own || !known && x.OSeq-own <= 3*lead {
			continue
		}
		v, _ := sadb.Ahead(sa.ESN(), x.OSeq, lead)
		if g.used.jumps.Owe(x.Key, v) {
			higher++
		}
	}
	if higher == 0 {
		return
	}
	e.stats.SplitJumps += higher
	e.log.Error("another node sent on the same SAs, jumping above its numbers; rekey them",
		"group", g.name, "peer", m.session.Peer(), "sas", higher)
	e.jump(ctx, g)
}

// jump raises outbound counters to what they owe after a split, in turns. What the
// kernel refuses is owed on.
func (e *Engine) jump(ctx context.Context, g *group) {
	for !e.jumpSome(ctx, g) {
		e.pause()
	}
}

// jumpSome raises some of them and reports whether that is all for now.
func (e *Engine) jumpSome(ctx context.Context, g *group) (done bool) {
	now := time.Now()
	ops := g.used.jumps.Ops(now, g.pub, e.cfg.Margin)
	if len(ops) == 0 {
		return true
	}
	refused := 0
	for i, err := range e.apply(ctx, ops) {
		switch {
		case err == nil:
			g.used.jumps.Done(ops[i].SA.Key, ops[i].SA.OSeq)
		case errors.Is(err, fs.ErrNotExist):
			g.used.jumps.Drop(ops[i].SA.Key)
		default:
			refused++
			e.kernelError(g, ops[i], err)
		}
	}
	if g.used.jumps.Open() && refused == 0 {
		return false
	}
	e.dump.stale = e.dump.running
	e.requestDump(ctx)
	return true
}

// jumpsAgain tries what the kernel refused.
func (e *Engine) jumpsAgain(ctx context.Context, g *group, now time.Time) {
	if g.used.jumps.Due(now) {
		e.jump(ctx, g)
	}
}

// maximaHeard notes that a master has begun the stream that was asked for: what was
// said before the question has arrived.
func (g *group) maximaHeard() {
	if g.used.saidAs == g.used.sentAs {
		g.used.sent = nil
	}
}

// yields decides which of two masters gives up: the lower pair of term and
// node id. Both sides compare the same two pairs, so exactly one yields.
func yields(term uint64, node wire.NodeID, otherTerm uint64, other wire.NodeID) bool {
	if term != otherTerm {
		return term < otherTerm
	}
	return string(node[:]) < string(other[:])
}

// yieldPause keeps a master that was told to yield from being told again with
// every message while the election moves. Another term is another split.
const yieldPause = 3 * time.Second

// laterTerm is what a master does that meets a standby of a later term.
func (e *Engine) laterTerm(ctx context.Context, m *member, g *group, gs wire.GroupState) {
	if gs.Have.Node != m.hello.Node && gs.Have.Node != e.cfg.Node {
		// It follows somebody else: this node is a stale one that came back.
		e.log.Error("a later master exists, giving way", "group", g.name, "term", g.term, "later", gs.Have.Term,
			"node", gs.Have.Node.String())
		e.elector.Resign(g.name, "stale: a later master exists")
		return
	}
	// It was that master itself and gave way: advertisements know priorities,
	// not terms. Or it was this node, which has lost its memory since. Go on under a term above
	// both, or nobody who followed it would follow this node.
	e.stats.SplitsSeen++ // over before the two could speak, but there was one
	g.term = max(gs.Term, gs.Have.Term) + 1
	e.log.Warn("another node was master under a later term", "group", g.name, "peer", m.session.Peer(), "term", g.term)
	g.ready.hasReported = false
	e.becomeMaster(ctx, g)
	e.broadcast(&wire.State{GroupState: g.state()})
	e.reportReadiness(g, time.Now())
}

// twoMasters resolves a split.
func (e *Engine) twoMasters(m *member, g *group, gs wire.GroupState) {
	yield := yields(g.term, e.cfg.Node, gs.Term, m.hello.Node)
	now := time.Now()
	if yield && now.Sub(g.leaving.handedAt) < yieldPause {
		return // the successor that this node has made
	}
	if g.split.preferTraffic && e.compares(m, g, gs, yield, now) || gs.Term == g.split.term &&
		now.Sub(g.split.at) < yieldPause {
		return
	}
	if yield {
		e.giveWay(m, g, gs, now)
		return
	}
	g.split.at, g.split.term = now, gs.Term
	e.stats.SplitsSeen++
	e.log.Error("two masters", "group", g.name, "term", g.term, "peer", m.session.Peer(), "peer_term", gs.Term,
		"yields", false)
}

// giveWay yields to another master.
func (e *Engine) giveWay(m *member, g *group, gs wire.GroupState, now time.Time) {
	g.split.at, g.split.term, g.split.to = now, gs.Term, m.hello.Node
	e.stats.SplitsSeen++
	e.log.Error("two masters", "group", g.name, "term", g.term, "peer", m.session.Peer(), "peer_term", gs.Term,
		"yields", true)
	e.elector.Resign(g.name, "another master with a higher term")
}
