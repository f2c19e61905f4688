package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

// TestUpdateKeepsCounters: an IKE daemon that changes an SA in place announces its
// request, which has no counters. Neither the stream nor what is counted follows it.
func TestUpdateKeepsCounters(t *testing.T) {
	for name, change := range map[string]func(*sadb.SA){
		"nothing":    func(*sadb.SA) {},
		"the limits": func(sa *sadb.SA) { sa.Limits.HardAdd += 60 },
		"the port":   func(sa *sadb.SA) { sa.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 5000} },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			now := time.Now()
			p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
			for _, dir := range []sadb.Direction{sadb.DirOut, sadb.DirIn} {
				sa := tunnel(r, 1, false)[0].SA
				sa.Dir, sa.Age = dir, 100
				sa.Counters = sadb.Counters{OSeq: 1000, Seq: 900, Bitmap: []uint32{1, 2, 3, 4}, Bytes: 1 << 20,
					Packets: 1000}
				sa.Used, sa.UseAge = true, 50
				p.PutSA(now, sa)
				kernel := *sa // what the tables hold
				kernel.Bitmap = slices.Clone(sa.Bitmap)
				change(&kernel)
				out, in, received := p.out, p.in, p.received

				request := kernel
				request.Counters, request.Age, request.Used, request.UseAge = sadb.Counters{}, 0, false, 0
				if rec, ok := p.PutSA(now.Add(time.Second), &request); ok {
					if got := rec.SA; got.OSeq != 1000 || got.Seq != 900 || got.Packets != 1000 || got.Age != 101 ||
						!got.Used || got.UseAge != 51 {
						t.Errorf("%v: published with %+v, age %d, use %v %d", dir, got.Counters, got.Age, got.Used,
							got.UseAge)
					}
				} else if name != "nothing" {
					t.Errorf("%v: the change was not published", dir)
				}
				kernel.OSeq, kernel.Packets = 1010, 1010
				p.Reconcile(now.Add(2*time.Second), &sadb.Snapshot{SAs: []*sadb.SA{&kernel}}, NewTouched())
				o, i := p.out-out, p.in-in
				if dir == sadb.DirIn && (o != 0 || i != 10 || p.received-received != 10) || dir == sadb.DirOut &&
					(o != 10 || i != 0) {
					t.Errorf("%v: 10 packets more, counted %d out, %d in, %d received", dir, o, i, p.received-received)
				}
				p.DeleteSA(now, sa.Key)
			}
		})
	}
}

// TestChangedSACounts: a reading that shows an SA changed and its counters moved
// counts what moved, and a count that went back counts nothing.
func TestChangedSACounts(t *testing.T) {
	now := time.Now()
	p := NewPublisher(wire.StreamID{Group: testGroup, Term: 1}, now)
	sa := tunnel(rand.New(rand.NewPCG(1, 2)), 1, false)[0].SA
	sa.Dir, sa.OSeq, sa.Packets = sadb.DirOut, 1000, 1000
	p.PutSA(now, sa)
	read := func(packets uint64) uint64 {
		before := p.out
		c := *p.sas[sa.Key].sa
		c.Limits.HardAdd++
		c.OSeq, c.Packets = packets, packets
		p.Reconcile(now, &sadb.Snapshot{SAs: []*sadb.SA{&c}}, NewTouched())
		return p.out - before
	}
	if n := read(1300); n != 300 {
		t.Errorf("300 packets more with a change: counted %d", n)
	}
	if n := read(5); n != 0 {
		t.Errorf("a count that went back: counted %d", n)
	}
	if got := p.sas[sa.Key].sa.OSeq; got != 1300 {
		t.Errorf("the outbound counter went back to %d", got)
	}
}
