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
	sent, id := g.sent, g.sentAs
	if sent == nil {
		if g.rcv.pos.Term != 0 {
			return // a standby's counters are ahead by the margin, not by use
		}
		sent, id = make(map[sadb.SAKey]uint64), wire.StreamID{Group: g.name}
		for k, h := range g.rcv.have {
			g.rcv.item()
			if h.oseq > 0 && !h.inbound {
				sent[k] = h.oseq
			}
		}
	}
	g.saidAs = id
	entries := make([]wire.Maximum, 0, min(len(sent), maximaBatch))
	for k, v := range sent {
		g.rcv.item()
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
	if msg.ID == g.pub.stream {
		e.standbyBeyond(ctx, m, g, msg.Entries)
		return
	}
	known := msg.ID.Node == m.hello.Node
	var higher uint64
	for _, x := range msg.Entries {
		p := g.pub.sas[x.Key]
		if p == nil || p.sa.Dir == sadb.DirIn {
			continue
		}
		lead, _ := e.cfg.Margin.Lead(p.sa.ESN(), 0, 0)
		if own := g.position(p); x.OSeq <= own || !known && x.OSeq-own <= 3*lead {
			continue
		}
		v, _ := sadb.Ahead(p.sa.ESN(), x.OSeq, lead)
		if g.owesJump(x.Key, v) {
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

// owesJump notes that an outbound counter has to be v at least, and reports whether
// that is more than what is owed already.
func (g *group) owesJump(k sadb.SAKey, v uint64) bool {
	if g.jumps[k] >= v {
		return false
	}
	if g.jumps == nil {
		g.jumps = make(map[sadb.SAKey]uint64)
	}
	g.jumps[k] = v
	return true
}

// position returns where a MASTER's counter stands: as the last reading has shown it,
// or where it has been set since.
func (g *group) position(p *pubSA) uint64 {
	v, ok := g.jumped[p.sa.Key]
	if ok && p.sa.OSeq >= v {
		delete(g.jumped, p.sa.Key)
	}
	return max(p.sa.OSeq, v)
}

// jumpAgain is how soon a jump that the kernel refused is tried again.
const jumpAgain = time.Second

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
	g.jumpAt = now.Add(jumpAgain)
	ops := make([]sadb.Op, 0, min(len(g.jumps), applyChunk))
	for k, v := range g.jumps {
		p := g.pub.sas[k]
		if p == nil || g.position(p) >= v {
			delete(g.jumps, k)
			continue
		}
		g.pub.age(now, p)
		c := *p.sa
		// A jump is never backwards: this node has sent since the last reading.
		lead, _ := e.cfg.Margin.Lead(c.ESN(), p.rate.Peak(), now.Sub(g.pub.collected))
		least, _ := sadb.Ahead(c.ESN(), g.position(p), lead)
		c.OSeq, c.Bitmap = max(v, least), nil
		if ops = append(ops, sadb.Op{Kind: sadb.OpSetCounters, SA: &c}); len(ops) == applyChunk {
			break
		}
	}
	if len(ops) == 0 {
		return true
	}
	refused := 0
	for i, err := range e.apply(ctx, ops) {
		switch {
		case err == nil:
			delete(g.jumps, ops[i].SA.Key)
			if g.jumped == nil {
				g.jumped = make(map[sadb.SAKey]uint64)
			}
			g.jumped[ops[i].SA.Key] = ops[i].SA.OSeq
		case errors.Is(err, fs.ErrNotExist):
			delete(g.jumps, ops[i].SA.Key)
		default:
			refused++
			e.kernelError(g, ops[i], err)
		}
	}
	if len(g.jumps) > 0 && refused == 0 {
		return false
	}
	e.dumpStale = e.dumping
	e.requestDump(ctx)
	return true
}

// jumpsAgain tries what the kernel refused.
func (e *Engine) jumpsAgain(ctx context.Context, g *group, now time.Time) {
	if len(g.jumps) > 0 && !now.Before(g.jumpAt) {
		e.jump(ctx, g)
	}
}

// maximaHeard notes that a master has begun the stream that was asked for: what was
// said before the question has arrived.
func (g *group) maximaHeard() {
	if g.saidAs == g.sentAs {
		g.sent = nil
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
		e.log.Error("a later master exists, giving way", "group", g.name, "term", g.term, "later", gs.Have.Term, "node", gs.Have.Node.String())
		e.elector.Resign(g.name, "stale: a later master exists")
		return
	}
	// It was that master itself and gave way: advertisements know priorities,
	// not terms. Or it was this node, which has lost its memory since. Go on under a term above both, or nobody who followed it would
	// follow this node.
	e.stats.SplitsSeen++ // over before the two could speak, but there was one
	g.term = max(gs.Term, gs.Have.Term) + 1
	e.log.Warn("another node was master under a later term", "group", g.name, "peer", m.session.Peer(), "term", g.term)
	g.toldOnce = false
	e.becomeMaster(ctx, g)
	e.broadcast(&wire.State{GroupState: g.state()})
	e.tellReadiness(g, time.Now())
}

// twoMasters resolves a split.
func (e *Engine) twoMasters(m *member, g *group, gs wire.GroupState) {
	yield := yields(g.term, e.cfg.Node, gs.Term, m.hello.Node)
	now := time.Now()
	if yield && now.Sub(g.handedAt) < yieldPause {
		return // the successor that this node has made
	}
	if g.preferTraffic && e.compares(m, g, gs, yield, now) || gs.Term == g.splitTerm && now.Sub(g.yielded) < yieldPause {
		return
	}
	if yield {
		e.giveWay(m, g, gs, now)
		return
	}
	g.yielded, g.splitTerm = now, gs.Term
	e.stats.SplitsSeen++
	e.log.Error("two masters", "group", g.name, "term", g.term, "peer", m.session.Peer(), "peer_term", gs.Term, "yields", false)
}

// giveWay yields to another master.
func (e *Engine) giveWay(m *member, g *group, gs wire.GroupState, now time.Time) {
	g.yielded, g.splitTerm, g.yieldedTo = now, gs.Term, m.hello.Node
	e.stats.SplitsSeen++
	e.log.Error("two masters", "group", g.name, "term", g.term, "peer", m.session.Peer(), "peer_term", gs.Term, "yields", true)
	e.elector.Resign(g.name, "another master with a higher term")
}
