package engine

import (
	"context"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// tellBeyond tells the master m whose stream is received what noteBeyond has noted.
// What is lost on the way the next reading notes again.
func (e *Engine) tellBeyond(g *group, m *member) {
	r := g.rcv
	if !r.HasBeyond() || m == nil || g.sending() || !r.Reception().Follows(m, r.Pos().StreamID) {
		return
	}
	for last := false; !last; {
		var entries []wire.Maximum
		entries, last = r.TakeBeyond(maximaBatch)
		e.send(m, &wire.Maxima{ID: r.Pos().StreamID, Last: last, Entries: entries})
	}
}

// standbyBeyond has a MASTER jump to where a standby's counters stand.
func (e *Engine) standbyBeyond(ctx context.Context, m *member, g *group, entries []wire.Maximum) {
	jumps := 0
	for _, x := range entries {
		sa := g.pub.SA(x.Key)
		if sa == nil || sa.Dir == sadb.DirIn || !e.cfg.Margin.Exceeds(sa.ESN(), x.OSeq, g.used.jumps.Position(sa),
			g.pub.Peak(x.Key)) {
			continue
		}
		if g.used.jumps.Owe(x.Key, x.OSeq) {
			jumps++
		}
	}
	if jumps == 0 {
		return
	}
	e.log.Info("jumping to where a standby's counters stand", "group", g.name, "peer", m.session.Peer(), "sas", jumps)
	e.jump(ctx, g)
}
