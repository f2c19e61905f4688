package engine

import (
	"context"
	"fmt"

	"sasyncd/sync/wire"
)

// Transfer is a snapshot that an operator asked for.
type Transfer struct {
	Group string `json:"group"`
	Peer  string `json:"peer"`
	// Push: this node is MASTER and sends it; else it receives it.
	Push bool `json:"push"`
}

// Resync begins whole snapshots anew and returns which. Without a peer, this node
// fetches those of all groups that it follows. With a peer, by its name in the
// configuration or its node id, it fetches those that this peer is MASTER of, and
// sends the peer those of which this node is MASTER.
func (e *Engine) Resync(ctx context.Context, peer string) ([]Transfer, error) {
	var out []Transfer
	var bad error
	err := e.do(ctx, func() {
		var only *member
		if peer != "" {
			if only = e.find(peer); only == nil {
				bad = fmt.Errorf("%s: %w", peer, ErrNoPeer)
				return
			}
		}
		for _, g := range e.order {
			if g.role == wire.RoleMaster {
				if only != nil && e.push(g, only) {
					out = append(out, Transfer{g.name, only.session.Peer(), true})
				}
				continue
			}
			from := asMember(g.rcv.Reception().Member())
			if from == nil || only != nil && from != only {
				continue
			}
			out = append(out, Transfer{g.name, from.session.Peer(), false})
			g.rcv.Reception().WantAll()
			e.follow(g, true)
		}
		if len(out) == 0 && bad == nil {
			bad = e.nothingToResync(only)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, bad
}

// push sends a standby that follows this master everything anew.
func (e *Engine) push(g *group, m *member) bool {
	ms := m.groups[g.name]
	if g.pub == nil || ms == nil || ms.out == nil {
		return false
	}
	e.run(g, func() {
		if g.pub != nil {
			e.sendSnapshot(g, m, m.newStream(ms), SnapshotAsked)
		}
	})
	return true
}

func (e *Engine) nothingToResync(only *member) error {
	if only != nil {
		return fmt.Errorf("%s is neither master nor standby of a group here: nothing to resynchronise",
			only.session.Peer())
	}
	for _, g := range e.order {
		if g.role != wire.RoleMaster {
			return fmt.Errorf("group %s follows no master now: see `sasyncctl status`", g.name)
		}
	}
	return fmt.Errorf("this node is MASTER and fetches from nobody: name a standby to send it everything anew, or " +
		"run this there")
}
