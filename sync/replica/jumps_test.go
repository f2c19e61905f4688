package replica

import (
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestJumps: what another node's numbers ask for is owed until the kernel has it, never
// less than was asked, and never behind what was sent since.
func TestJumps(t *testing.T) {
	now := time.Unix(1e9, 0)
	m := sadb.DefaultMargin()
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sa := outbound(2) // ESN
	sa.OSeq = 1000
	p.PutSA(now, sa)
	p.BeginScan(now) // a reading of now
	p.ReadWhole(now, sa, 0, NewTouched())
	p.EndScan(now, nil, NewTouched(), func([]wire.Record) {})
	var j Jumps
	if none := (&Jumps{}).Ops(now, p, m); j.Open() || j.Due(now) || j.Position(sa) != 1000 || len(none) > 0 {
		t.Errorf("at first: %+v", j)
	}
	far := uint64(1) << 40
	for _, tt := range []struct {
		v    uint64
		more bool
	}{{far, true}, {far, false}, {far - 1, false}, {far + 1, true}} {
		if got := j.Owe(sa.Key, tt.v); got != tt.more {
			t.Errorf("owing %d is more: %v, want %v", tt.v, got, tt.more)
		}
	}
	if !j.Open() || !j.Due(now) {
		t.Error("nothing is owed")
	}
	ops := j.Ops(now, p, m)
	if len(ops) != 1 || ops[0].Kind != sadb.OpSetCounters || ops[0].SA.OSeq != far+1 || ops[0].SA.Bitmap != nil ||
		ops[0].SA == sa || sa.OSeq != 1000 {
		t.Fatalf("operations %+v", ops)
	}
	// The kernel refuses: it is tried again a second later.
	if j.Due(now.Add(jumpAgain-1)) || !j.Due(now.Add(jumpAgain)) || !j.Open() {
		t.Error("what was refused is not tried again after a second")
	}
	j.Done(sa.Key, far+1)
	if j.Open() || j.Due(now.Add(time.Hour)) {
		t.Error("what is done is owed")
	}
	if got := j.Position(sa); got != far+1 {
		t.Errorf("position %d before the next reading, want %d", got, far+1)
	}
	if j.Owe(sa.Key, far); len(j.Ops(now, p, m)) > 0 || j.Open() {
		t.Error("a jump to where the counter stands")
	}
	sa.OSeq = far + 5 // as the next reading shows
	if got := j.Position(sa); got != far+5 {
		t.Errorf("position %d after a reading, want %d", got, far+5)
	}
	if sa.OSeq = 7; j.Position(sa) != 7 {
		t.Error("what a reading has shown is remembered as set")
	}

	// A small jump still leaves out what was sent since the reading.
	sa.OSeq = 1000
	lead, _ := m.Lead(true, 0, 3*time.Second)
	j.Owe(sa.Key, 1001)
	if ops = j.Ops(now.Add(3*time.Second), p, m); len(ops) != 1 || ops[0].SA.OSeq != 1000+lead || ops[0].SA.Age != 3 {
		t.Errorf("operations %+v, want the counter at %d", ops, 1000+lead)
	}
	gone := outbound(4)
	j.Owe(gone.Key, far)
	j.Drop(sa.Key)
	if ops = j.Ops(now, p, m); len(ops) > 0 || j.Open() {
		t.Errorf("what is gone is raised: %+v, owed %v", ops, j.Open())
	}
	j.Owe(sa.Key, far)
	if owed := j.Take(); owed[sa.Key] != far || len(owed) != 1 || j.Open() {
		t.Errorf("took %v, owed still %v", owed, j.Open())
	}
}

// TestJumpsInTurns: many are raised some at a time.
func TestJumpsInTurns(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	var j Jumps
	for i := range 2*TurnOps + 1 {
		sa := *outbound(2)
		sa.Key.SPI = uint32(1000 + i)
		p.PutSA(now, &sa)
		j.Owe(sa.Key, 1<<40)
	}
	for _, want := range []int{TurnOps, TurnOps, 1, 0} {
		ops := j.Ops(now, p, sadb.DefaultMargin())
		if len(ops) != want {
			t.Fatalf("%d operations, want %d", len(ops), want)
		}
		for _, op := range ops {
			j.Done(op.SA.Key, op.SA.OSeq)
		}
	}
}
