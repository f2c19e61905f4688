package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// published returns a publisher of n tunnels.
func published(n int, now time.Time) *Publisher {
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		for _, op := range tunnel(r, i, true) {
			if op.SA != nil {
				p.PutSA(now, op.SA)
			} else {
				p.PutPolicy(now, op.Policy)
			}
		}
	}
	return p
}

// sent has a follower send all that its window allows and returns how many records that
// were, and the end of the snapshot if it came.
func sent(f *Follower, now time.Time, p *Publisher) (records int, end *wire.SnapEnd) {
	for msg := f.Next(now, p); msg != nil; msg = f.Next(now, p) {
		switch msg := msg.(type) {
		case *wire.Batch:
			records += len(msg.Records)
		case *wire.SnapEnd:
			end = msg
		}
	}
	return records, end
}

// TestFollower: the state, whether counters are sent, and the lag behind each step.
func TestFollower(t *testing.T) {
	began := time.Unix(1e9, 0)
	now := began.Add(3 * time.Second)
	p := published(2, began)
	ack := func(f *Follower, installed uint32, done bool) {
		t.Helper()
		if _, ok := f.Ack(now, p, &wire.Ack{Seq: p.Seq(), Installed: installed, SnapDone: done}); !ok {
			t.Error("an acknowledgement of what was sent is refused")
		}
	}
	for _, tt := range []struct {
		name     string
		do       func(*Follower)
		state    FollowerState
		counters bool
		lag      time.Duration
	}{
		{"new", func(*Follower) {}, FollowerNew, false, 3 * time.Second},
		{"new and acknowledged", func(f *Follower) { ack(f, 0, true); f.Next(now, p) }, FollowerNew, false,
			3 * time.Second},
		{"snapshot", func(f *Follower) { f.Snapshot(p) }, FollowerSnapshot, false, 3 * time.Second},
		{"snapshot sent", func(f *Follower) { f.Snapshot(p); sent(f, now, p) }, FollowerSent, true, 3 * time.Second},
		{"sent and partly installed", func(f *Follower) { f.Snapshot(p); sent(f, now, p); ack(f, 4, false) },
			FollowerSent, true, 3 * time.Second},
		{"sent and installed", func(f *Follower) { f.Snapshot(p); sent(f, now, p); ack(f, 10, true) }, FollowerComplete,
			true, 0},
		{"a former snapshot acknowledged", func(f *Follower) { f.Snapshot(p); ack(f, 0, true) }, FollowerSnapshot,
			false, 3 * time.Second},
		{"resumed", func(f *Follower) { f.Resume(p, p.Seq()) }, FollowerComplete, true, 0},
		{"resumed behind a change", func(f *Follower) { f.Resume(p, p.Seq()-1) }, FollowerComplete, true,
			3 * time.Second},
	} {
		f := NewFollower(7, began)
		tt.do(f)
		if f.state != tt.state || f.TakesCounters() != tt.counters || f.Lag(now, p) != tt.lag {
			t.Errorf("%s: %v, counters %v, lag %v, want %v, %v, %v", tt.name, f.state, f.TakesCounters(), f.Lag(now, p),
				tt.state, tt.counters, tt.lag)
		}
		if f.Complete() != (tt.state == FollowerComplete) || (f.cursor != nil) != (tt.state == FollowerSnapshot) {
			t.Errorf("%s: complete %v, a cursor %v", tt.name, f.Complete(), f.cursor != nil)
		}
	}
}

// TestFollowerSendsAWindow: a snapshot waits for acknowledgements, and its end names all
// that was sent. What is deleted before its turn is not sent.
func TestFollowerSendsAWindow(t *testing.T) {
	const tunnels = 1000
	now := time.Unix(1e9, 0)
	p := published(tunnels, now)
	f := NewFollower(7, now)
	begin := f.Snapshot(p)
	if begin.SAs != 2*tunnels || begin.Policies != 3*tunnels {
		t.Fatalf("a snapshot of %d SAs and %d policies, want %d and %d", begin.SAs, begin.Policies, 2*tunnels,
			3*tunnels)
	}
	total, end := sent(f, now, p)
	if total != snapWindow || end != nil {
		t.Fatalf("%d records without an acknowledgement, want %d; end %v", total, snapWindow, end)
	}
	var gone sadb.SAKey
	for k := range p.sas {
		gone = k
	}
	p.DeleteSA(now, gone)
	for rounds := 0; end == nil && rounds < tunnels; rounds++ {
		f.Ack(now, p, &wire.Ack{Installed: uint32(total)})
		n := 0
		n, end = sent(f, now, p)
		total += n
	}
	if end == nil || total != 5*tunnels-1 || end.SAs != 2*tunnels-1 || end.Policies != 3*tunnels || end.Seq != p.Seq() {
		t.Errorf("%d records, end %+v", total, end)
	}
}

// TestFollowerRefusesWhatWasNotSent: nobody can acknowledge what was never sent.
func TestFollowerRefusesWhatWasNotSent(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := published(1, now)
	for _, a := range []wire.Ack{{Seq: p.Seq() + 1}, {Epoch: p.Epoch() + 1}, {Installed: 6}} {
		f := NewFollower(7, now)
		f.Snapshot(p)
		sent(f, now, p)
		if _, ok := f.Ack(now, p, &a); ok {
			t.Errorf("%+v is accepted", a)
		}
	}
}
