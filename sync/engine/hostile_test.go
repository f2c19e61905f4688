package engine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestNonsenseChangesNothing: a member that holds the key but talks nonsense, to
// a master and to a standby that follows another. Nothing in a kernel changes,
// no role is touched, and what breaks the protocol ends the session.
func TestNonsenseChangesNothing(t *testing.T) {
	id := wire.StreamID{Group: simGroup, Term: 99, Node: wire.NodeID{3}, Nonce: 1}
	other := wire.StreamID{Group: simGroup, Term: 1, Node: wire.NodeID{1}, Nonce: 100}
	stray := tunnel(rand.New(rand.NewPCG(9, 9)), 77, false)
	put := []wire.Record{{Kind: wire.PutSA, Handle: 1, SA: stray[0].SA, Numbered: true},
		{Kind: wire.PutPolicy, Policy: stray[2].Policy, Numbered: true}}
	for _, tt := range []struct {
		name  string
		msg   wire.Message
		fatal bool
	}{
		{"snapshot that was not asked for", &wire.SnapBegin{Stream: 1, ID: id}, true},
		{"snapshot in another's name", &wire.SnapBegin{Stream: 1, ID: other}, true},
		{"snapshot of a group that is not here", &wire.SnapBegin{Stream: 1, ID: wire.StreamID{Group: "x"}}, true},
		{"resume that was not asked for", &wire.Resume{Stream: 1, ID: id}, true},
		{"records of no stream", &wire.Batch{Stream: 7, First: 1, Records: put}, false},
		{"end of no stream", &wire.SnapEnd{Stream: 7}, false},
		{"counters of no stream", &wire.Counters{Stream: 7, Epoch: 1,
			Entries: []wire.CounterEntry{{Handle: 1, OSeq: 1 << 40}}}, false},
		{"hand-over by somebody else", &wire.Handover{Group: simGroup, Term: 1}, false},
		{"digest of no stream", &wire.Digest{Stream: 7, Buckets: make([]uint64, 3)}, false},
		{"buckets of no stream", &wire.BucketItems{Stream: 7, Of: 256, Keys: []wire.Sum{},
			Records: []wire.Record{{Kind: wire.PutSA, Handle: 1, SA: stray[0].SA}}}, false},
		{"request for a group that is not here", &wire.Request{Group: "x"}, false},
		{"state of a group that is not here", &wire.State{GroupState: wire.GroupState{Name: "x", Role: wire.RoleMaster,
			Term: 1000}}, false},
		{"fitness of a group that is not here", &wire.Fitness{Group: "x", Demotion: 9}, false},
		{"fitness of a group that it does not have", &wire.Fitness{Group: simGroup, Willing: true}, false},
		{"gossip", &wire.Gossip{Payload: []byte("x")}, false},
		{"hello again", &wire.Hello{Node: wire.NodeID{9}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3)
				defer w.stop()
				w.nodes[0].kernel.foreign(tunnel(rand.New(rand.NewPCG(1, 1)), 1, false)...)
				for i, n := range w.nodes {
					n.boot(uint64(100 + i))
				}
				w.nodes[0].role(wire.RoleMaster, 1)
				w.nodes[1].role(wire.RoleBackup, 1)
				w.connect(0, 1)
				time.Sleep(2 * time.Second)
				for i := range 2 {
					n := w.nodes[i]
					before, ops, role := n.kernel.text(), n.kernel.count(), n.status().Role
					w.connect(i, 2)
					time.Sleep(100 * time.Millisecond)
					s := w.session(2, i)
					s.Send(tt.msg)
					time.Sleep(100 * time.Millisecond)
					if n.kernel.text() != before || n.kernel.count() != ops || n.status().Role != role {
						t.Errorf("node %d: kernel or role changed", i)
					}
					if got := n.elector.takeovers(); len(got) != 0 || n.elector.resignations() != 0 {
						t.Errorf("node %d: the election was told %v", i, got)
					}
					if s.isClosed() != tt.fatal {
						t.Errorf("node %d: session closed: %v, want %v", i, s.isClosed(), tt.fatal)
					}
					w.cut(i, 2)
				}
			})
		})
	}
}

// TestAcknowledgementsOfWhatWasNotSent end the session of a standby.
func TestAcknowledgementsOfWhatWasNotSent(t *testing.T) {
	for _, a := range []wire.Ack{{Seq: 1 << 40}, {Epoch: 1 << 40}, {Installed: 1 << 30}} {
		synctest.Test(t, func(t *testing.T) {
			w, _ := pair(t, 3)
			defer w.stop()
			s := w.session(1, 0)
			a.Stream = 1
			s.Send(&a)
			time.Sleep(100 * time.Millisecond)
			if !s.isClosed() {
				t.Errorf("%+v was believed", a)
			}
		})
	}
}

// session returns the end that sends from one node to another.
func (w *world) session(from, to int) *simSession {
	l := w.links[[2]int{min(from, to), max(from, to)}]
	if l.a.from.i == from {
		return l.a
	}
	return l.b
}

func (s *simSession) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}
