package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestHighTermsAreNotBelieved: a member that tells a term far above all that were
// counted is cut off, and the next masterships are numbered as if it had not been
// there. One that is ahead by what counting reaches is believed.
func TestHighTermsAreNotBelieved(t *testing.T) {
	stream := func(term uint64) wire.StreamPos {
		return wire.StreamPos{StreamID: wire.StreamID{Group: simGroup, Term: term, Node: wire.NodeID{7}, Nonce: 1}}
	}
	for _, tt := range []struct {
		name     string
		state    wire.GroupState
		believed bool
	}{
		{"of a backup", wire.GroupState{Role: wire.RoleBackup, Term: 1 << 62}, false},
		{"of a master", wire.GroupState{Role: wire.RoleMaster, Term: 1 << 62}, false},
		{"of the stream it has", wire.GroupState{Role: wire.RoleBackup, Term: 1, Have: stream(1 << 62)}, false},
		{"just too high", wire.GroupState{Role: wire.RoleBackup, Term: 1<<32 + 2}, false},
		{"just not too high", wire.GroupState{Role: wire.RoleBackup, Term: 1<<32 + 1}, true},
	} {
		for _, at := range []int{0, 1} { // the master, and its standby
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				defer w.stop()
				for i, n := range w.nodes {
					n.boot(uint64(100 + i))
				}
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				time.Sleep(2 * time.Second)
				w.connect(at, 2)
				time.Sleep(100 * time.Millisecond)
				s := w.session(2, at)
				tt.state.Name = simGroup
				s.Send(&wire.State{GroupState: tt.state})
				time.Sleep(100 * time.Millisecond)
				if s.isClosed() == tt.believed {
					t.Errorf("%s, told to node %d: session closed: %v", tt.name, at, s.isClosed())
				}
				if tt.believed {
					return
				}
				w.cut(at, 2)
				w.nodes[0].role(wire.RoleBackup, 1)
				w.nodes[1].role(wire.RoleMaster, 0) // it counts itself
				time.Sleep(5 * time.Second)
				m, b := w.nodes[1].status(), w.nodes[0].status()
				if m.Term > 3 || !b.InSync || b.Why != "follows the master" {
					t.Errorf("%s, told to node %d: the next mastership has term %d; the other node: in sync %v, %s",
						tt.name, at, m.Term, b.InSync, b.Why)
				}
			})
		}
	}
}
