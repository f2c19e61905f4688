package replica

import (
	"testing"
	"time"

	"sasyncd/sync/wire"
)

// someone is a Source.
type someone struct{ name string }

func (s *someone) Peer() string { return s.name }

// TestReception plays the transitions of a reception.
func TestReception(t *testing.T) {
	id := wire.StreamID{Group: testGroup, Term: 1, Node: wire.NodeID{1}, Nonce: 7}
	at := func(seq uint64) wire.StreamPos { return wire.StreamPos{StreamID: id, Seq: seq, Complete: true} }
	m := &someone{"m"}
	now := time.Now()
	began := func(x *Reception, handle uint32, snapshot bool, at time.Time) { x.Bind(handle, at); x.begin(snapshot) }
	for _, tt := range []struct {
		name string
		do   func(x *Reception)
		want ReceptionState
		sync bool // at change 5, now
	}{
		{"nothing", func(x *Reception) {}, ReceptionIdle, false},
		{"asked", func(x *Reception) { x.Ask(m, id, now) }, ReceptionAsked, false},
		{"snapshot", func(x *Reception) { x.Ask(m, id, now); began(x, 3, true, now) }, ReceptionSnapshot, true},
		{"snapshot ended", func(x *Reception) { x.Ask(m, id, now); began(x, 3, true, now); x.end() },
			ReceptionFollowing, true},
		{"resumed", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now) }, ReceptionFollowing, true},
		{"missed one", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Miss(6) }, ReceptionIdle,
			false},
		{"asked for what was missed", func(x *Reception) {
			x.Ask(m, id, now)
			began(x, 3, false,
				now)
			x.Miss(6)
			x.Ask(m, id, now)
		}, ReceptionAsked, false},
		{"what was missed is on its way", func(x *Reception) {
			x.Ask(m, id, now)
			began(x, 3, false, now)
			x.Miss(6)
			x.Ask(m, id, now)
			began(x, 4, false, now)
		}, ReceptionFollowing, false},
		{"closed", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Close() }, ReceptionClosed, true},
		{"closed and opened", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Close(); x.Open() },
			ReceptionIdle, true},
		{"opened without being closed", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Open() },
			ReceptionFollowing, true},
		{"asked after that", func(x *Reception) {
			x.Ask(m, id, now)
			began(x, 3, false, now)
			x.Close()
			x.Open()
			x.Ask(m, id, now)
		}, ReceptionAsked, true},
		{"closed, not asking", func(x *Reception) { x.Close(); x.Ask(m, id, now) }, ReceptionClosed, false},
		{"lost", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Lose(m, now) }, ReceptionIdle,
			false},
		{"lost another", func(x *Reception) {
			x.Ask(m, id, now)
			began(x, 3, false, now)
			x.Lose(&someone{"another"},
				now)
		}, ReceptionFollowing, true},
		{"lost while closed", func(x *Reception) {
			x.Ask(m, id, now)
			began(x, 3, false, now)
			x.Close()
			x.Lose(m,
				now)
		}, ReceptionClosed, false},
		{"silent", func(x *Reception) { x.Ask(m, id, now.Add(-time.Hour)); began(x, 3, false, now.Add(-LagLimit-1)) },
			ReceptionFollowing, false},
		{"ended", func(x *Reception) { x.Ask(m, id, now); began(x, 3, false, now); x.Stop() }, ReceptionIdle, false},
	} {
		var x Reception
		tt.do(&x)
		if x.state != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, x.state, tt.want)
		}
		if why := x.Lacks(at(5), now); (x.Contact(at(5)) && why == "") != tt.sync {
			t.Errorf("%s: contact %v, lacks %q; want in sync: %v", tt.name, x.Contact(at(5)), why, tt.sync)
		}
		if x.state != ReceptionClosed && (x.from == nil) != (x.state == ReceptionIdle) {
			t.Errorf("%s: %v with a sender: %v", tt.name, x.state, x.from != nil)
		}
		if got := x.Takes(m, x.handle); got != (x.state == ReceptionSnapshot || x.state == ReceptionFollowing) {
			t.Errorf("%s: %v takes messages: %v", tt.name, x.state, got)
		}
	}
}
