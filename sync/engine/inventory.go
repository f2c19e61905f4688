package engine

import (
	"context"
	"fmt"

	"sasyncd/sync/compare"
	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// inventory reads what the kernel holds of a group.
func (e *Engine) inventory(ctx context.Context, group string) (*sadb.Snapshot, error) {
	snap, err := e.kernel.Dump(ctx)
	if err != nil {
		return nil, err
	}
	var out *sadb.Snapshot
	err = e.inTurns(ctx, func() {
		if g := e.groups[group]; g != nil && g.known() {
			out = g.pick(snap)
		}
	})
	if err == nil && out == nil {
		err = fmt.Errorf("group %s: its virtual addresses are not known yet", group)
	}
	return out, err
}

// inventoryBatch is how many records travel in one message.
const inventoryBatch = 64

// compared answers a peer's question, one at a time: it costs a reading of the
// kernel's tables.
func (e *Engine) compared(ctx context.Context, m *member, msg *wire.Compare) {
	replyError := func(why string) { e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Error: why}) }
	switch g := e.groups[msg.Group]; {
	case m.inventory:
		replyError("the answer to an earlier question is not finished")
		return
	case g == nil || !g.known():
		replyError("group " + msg.Group + " is not configured here, or its virtual addresses are not known")
		return
	case msg.Of != replica.SumBuckets:
		replyError(fmt.Sprintf("%d buckets are not what this version has", msg.Of))
		return
	}
	m.inventory = true
	go func() {
		snap, err := e.inventory(ctx, msg.Group)
		var records []wire.Record
		if err == nil && len(msg.Buckets) > 0 {
			for _, r := range compare.Items(snap, msg.Salt, msg.Buckets) {
				records = append(records, r)
			}
		}
		_ = e.do(ctx, func() { // fails when the engine has ended
			m.inventory = false
			switch {
			case e.members[m.session] != m:
			case err != nil:
				replyError("reading the tables failed")
			case len(records) > compareMost:
				replyError(fmt.Sprintf("%d items at once are too many", len(records)))
			case len(msg.Buckets) == 0:
				s := compare.Sums(snap)
				e.send(m, &wire.Inventory{Token: msg.Token, Last: true, Sums: s[:]})
			default:
				for more := true; more; {
					n := min(len(records), inventoryBatch)
					more = n < len(records)
					if !e.send(m, &wire.Inventory{Token: msg.Token, Last: !more, Records: records[:n]}) {
						return
					}
					records = records[n:]
				}
			}
		})
	}()
}
