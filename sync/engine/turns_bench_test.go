package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	sys "golang.org/x/sys/unix"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/sync/wire"
)

// idleKernel carries out every operation at once and holds what it is given.
type idleKernel struct {
	snap *sadb.Snapshot
	most int // operations of one call
	// counted, if it is not nil, counts all operations.
	counted *int
	none    []error
}

func (k *idleKernel) Dump(context.Context) (*sadb.Snapshot, error)        { return k.snap, nil }
func (k *idleKernel) Scan(context.Context, func(*sadb.Chunk) error) error { return nil }
func (k *idleKernel) ScanPolicies(context.Context, uint64) ([]*sadb.Policy, uint64, error) {
	return k.snap.Policies, 0, nil
}
func (k *idleKernel) Glances(_ context.Context, keys []sadb.SAKey) ([]sadb.Reading, error) {
	list := make([]sadb.Reading, len(keys))
	for i, key := range keys {
		list[i].Key = key
	}
	return list, nil
}
func (k *idleKernel) Watch(context.Context) (<-chan sadb.Event, error) { return nil, nil }
func (k *idleKernel) Apply(_ context.Context, ops []sadb.Op) []error {
	k.most = max(k.most, len(ops))
	if k.counted != nil {
		*k.counted += len(ops)
	}
	k.none = append(k.none[:0], make([]error, len(ops))...)
	return k.none
}

// nullSession takes every message.
type nullSession struct{}

func (nullSession) Send(wire.Message) bool     { return true }
func (nullSession) Queued() int                { return 0 }
func (nullSession) Close(wire.ByeCode, string) {}
func (nullSession) Peer() string               { return "null" }

// turnsRig is an engine of one group without a loop: its tasks get their turns from
// longest.
type turnsRig struct {
	e *Engine
	g *group
	k *idleKernel
	m *member
}

// policyOf makes n policies that differ.
func policyOf(n int) *sadb.Policy {
	far := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	return &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut,
		Selector: sadb.SelectorOf(netip.MustParsePrefix("10.1.0.0/24"), far)},
		Templates: []sadb.Template{{Src: simVIPs[0], Dst: netip.MustParseAddr("198.51.100.1"), Proto: sadb.ProtoESP,
			Family: sadb.FamilyOf(simVIPs[0]),
			Reqid:  uint32(n + 1), Mode: sadb.ModeTunnel}}}
}

func newTurnsRig(n int) *turnsRig {
	r := sadbtest.NewRand(1)
	k := &idleKernel{snap: &sadb.Snapshot{}}
	for i := range n {
		sa := sadbtest.SA(r)
		sa.Dir, sa.Offloaded, sa.Unknown, sa.OSeq = sadb.DirOut, false, nil, 1000
		k.snap.SAs = append(k.snap.SAs, sa)
		k.snap.Policies = append(k.snap.Policies, policyOf(i))
	}
	e := New(Config{Node: wire.NodeID{1}, Groups: []GroupConfig{{Name: simGroup, Whole: true}},
		Margin: sadb.DefaultMargin(), Interval: time.Second,
		Audit: 2 * time.Second, Sweep: true, ForwardFlush: true, Log: slog.New(slog.DiscardHandler)}, k, &simPeers{},
		&simElector{ready: make(map[string]Readiness)})
	rig := &turnsRig{e: e, g: e.order[0], k: k}
	rig.m = &member{session: nullSession{}, hello: &wire.Hello{Node: wire.NodeID{2}},
		groups: map[string]*membership{simGroup: {}},
		routes: make(map[uint32]*group)}
	e.members[rig.m.session] = rig.m
	return rig
}

// fresh returns the tables as another reading hands them out.
func (r *turnsRig) fresh() *sadb.Snapshot {
	s := &sadb.Snapshot{Policies: slices.Clone(r.k.snap.Policies)}
	for _, sa := range r.k.snap.SAs {
		c := *sa
		s.SAs = append(s.SAs, &c)
	}
	return s
}

// master makes the rig MASTER of what its kernel holds.
func (r *turnsRig) master() {
	r.g.role, r.g.term = wire.RoleMaster, 1
	p := replica.NewPublisher(wire.StreamID{Group: simGroup, Term: 1, Node: wire.NodeID{1}}, time.Now())
	p.Reconcile(time.Now(), r.fresh(), replica.NewTouched())
	p.Pace = r.g.work.turns
	r.g.pub = p
	f := replica.NewFollower(1, time.Now())
	f.Resume(p, p.Seq())
	f.MovedSent(p)
	r.m.groups[simGroup].out = f
}

// standby makes it a standby that holds all of a master's stream; its kernel holds
// it too if installed says so.
func (r *turnsRig) standby(installed bool) {
	r.g.role, r.g.term = wire.RoleBackup, 1
	rcv := r.g.newReceiver(r.e.cfg)
	r.g.rcv = rcv
	now := time.Now()
	p := replica.NewPublisher(wire.StreamID{Group: simGroup, Term: 1, Node: wire.NodeID{2}}, now)
	p.Reconcile(now, r.fresh(), replica.NewTouched())
	rcv.Inherit(now, 0, p)
	rcv.SetPos(p.Pos())
	rcv.Observe(&sadb.Snapshot{}, replica.NewTouched())
	if installed {
		for _, op := range slices.Concat(rcv.Repair(now)...) {
			rcv.Result(op, nil)
		}
		rcv.CarriedOut()
	}
}

// processorTime is what the calling thread has used. Other programs of the machine
// do not lengthen it.
func processorTime() time.Duration {
	var ts sys.Timespec
	if err := sys.ClockGettime(sys.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// longest has work carried out as a task and returns the longest turn.
func (r *turnsRig) longest(work func()) (most time.Duration) {
	began := processorTime()
	r.e.run(r.g, work)
	for {
		most = max(most, processorTime()-began)
		switch {
		case r.e.busy() != nil:
			began = processorTime()
			r.e.turn()
		case r.g.work.task != nil: // waits for a reading of the kernel's tables
			f := <-r.e.calls
			began = processorTime()
			f()
		default:
			return most
		}
	}
}

// works are what a group does with all of its items.
var works = []struct {
	name    string
	prepare func(*turnsRig) func() // returns the task
}{
	{"repair", func(r *turnsRig) func() {
		r.standby(false)
		return func() { r.e.execAll(context.Background(), r.g, r.g.rcv.Repair(time.Now())) }
	}},
	{"audit", func(r *turnsRig) func() {
		r.standby(true)
		snap := r.fresh()
		return func() {
			r.g.rcv.Observe(snap, replica.NewTouched())
			r.g.rcv.Repair(time.Now())
		}
	}},
	{"sweep", func(r *turnsRig) func() {
		r.standby(true)
		r.g.rcv.BeginSnapshot(wire.StreamID{Group: simGroup, Term: 2, Node: wire.NodeID{2}}, 0, 0, 0)
		return func() { r.e.execAll(context.Background(), r.g, r.g.rcv.EndSnapshot(0)) }
	}},
	{"raise", func(r *turnsRig) func() {
		r.standby(true)
		later := time.Now().Add(time.Minute)
		for s := range 2 { // at 1,000,000 packets a second
			var entries []wire.CounterEntry
			for i, sa := range r.k.snap.SAs {
				packets := sa.Packets + uint64(s)*1_000_000
				entries = append(entries, wire.CounterEntry{Handle: uint32(i + 1), OSeq: sa.OSeq, Packets: packets})
			}
			r.g.rcv.SetCounters(time.Now(), time.Duration(s)*time.Second, entries)
			r.g.rcv.CarriedOut()
		}
		return func() { r.e.exec(context.Background(), r.g, r.g.rcv.Raise(later)) }
	}},
	{"counters", func(r *turnsRig) func() {
		r.standby(true)
		var entries []wire.CounterEntry
		for i, sa := range r.k.snap.SAs {
			entries = append(entries, wire.CounterEntry{Handle: uint32(i + 1), OSeq: sa.OSeq + 1<<27, Packets: sa.Packets + 9})
		}
		return func() {
			for part := range slices.Chunk(entries, counterBatch) {
				r.e.exec(context.Background(), r.g, r.g.rcv.SetCounters(time.Now(), time.Second, part))
			}
		}
	}},
	{"retire", func(r *turnsRig) func() {
		r.standby(true)
		return func() {
			r.g.raising = &counterRaise{}
			r.e.raiseBeyondSuccessor(context.Background(), r.g, time.Now())
		}
	}},
	{"RefreshAges", func(r *turnsRig) func() {
		r.standby(true)
		return func() { r.e.exec(context.Background(), r.g, r.g.rcv.RefreshAges(time.Now())) }
	}},
	{"repair-bucket", func(r *turnsRig) func() {
		r.standby(true)
		return func() {
			r.g.rcv.RepairBucket(time.Now(), 0, &wire.BucketItems{Seq: r.g.rcv.Pos().Seq, Of: replica.SumBuckets,
				Bucket: 7})
		}
	}},
	{"promote", func(r *turnsRig) func() {
		r.standby(true)
		r.e.dump.running = true // nothing reads here
		r.g.role = wire.RoleMaster
		return func() { r.e.promote(context.Background(), r.g) }
	}},
	{"step-down", func(r *turnsRig) func() {
		r.master()
		r.e.loseMaster(context.Background(), r.g)
		return func() {}
	}},
	{"publish-first", func(r *turnsRig) func() {
		r.g.role, r.g.term = wire.RoleMaster, 1
		p := replica.NewPublisher(wire.StreamID{Group: simGroup, Term: 1, Node: wire.NodeID{1}}, time.Now())
		p.Pace = r.g.work.turns
		p.BeginScan(time.Now())
		for _, sa := range r.fresh().SAs {
			p.ReadWhole(time.Now(), sa, 0, replica.NewTouched())
		}
		r.g.reading.scan.pub = p
		return func() { r.e.masterScanned(context.Background(), r.g, time.Now(), r.k.snap.Policies) }
	}},
	{"publish", func(r *turnsRig) func() { // all counters have moved
		r.master()
		p := r.g.pub
		p.BeginScan(time.Now())
		for _, sa := range r.fresh().SAs {
			sa.OSeq += 10
			p.ReadWhole(time.Now(), sa, 0, replica.NewTouched())
		}
		return func() { r.e.masterScanned(context.Background(), r.g, time.Now(), r.k.snap.Policies) }
	}},
	{"publish-flush", func(r *turnsRig) func() {
		r.master()
		r.g.pub.BeginScan(time.Now())
		return func() { r.e.masterScanned(context.Background(), r.g, time.Now(), nil) }
	}},
	{"forward-flush", forwarding},
	{"reinsert", func(r *turnsRig) func() {
		r.master()
		return func() { r.e.reinsert(context.Background(), r.g, time.Now()) }
	}},
	{"snapshot", func(r *turnsRig) func() {
		r.master()
		return func() { r.e.push(r.g, r.m) }
	}},
	{"buckets", func(r *turnsRig) func() {
		r.master()
		all := make([]uint16, replica.SumBuckets)
		for i := range all {
			all[i] = uint16(i)
		}
		return func() {
			r.e.sendBuckets(r.m, &wire.BucketRequest{Stream: r.m.groups[simGroup].out.Handle(), Of: replica.SumBuckets,
				Buckets: all})
		}
	}},
	{"collect", func(r *turnsRig) func() {
		r.master()
		own := false // one SA was made here
		r.g.pub.Adopt(time.Now(), r.g.rcv, func(*sadb.SA) bool {
			was := own
			own = true
			return was
		})
		return func() { r.e.deleteSuperseded(context.Background(), r.g, time.Now()) }
	}},
	{"maxima", func(r *turnsRig) func() {
		r.standby(true)
		r.m.groups[simGroup].state = wire.GroupState{Name: simGroup, Role: wire.RoleMaster, Term: 2,
			Have: wire.StreamPos{StreamID: wire.StreamID{Group: simGroup, Term: 2, Node: wire.NodeID{2}}}}
		r.g.used.sent = r.g.rcv.Outbound()
		return func() { r.e.follow(r.g, false) }
	}},
}

// BenchmarkLongestTurn shows for how long at most the engine does not look at the
// election: the longest turn of each work in processor time, the median of the runs,
// and the worst.
// The kernel of this benchmark takes no time; a turn has at most applyChunk of its
// operations.
func BenchmarkLongestTurn(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, w := range works {
			b.Run(fmt.Sprintf("%s/%d", w.name, n), func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				var all []time.Duration
				for b.Loop() {
					rig := newTurnsRig(n)
					work := w.prepare(rig)
					all = append(all, rig.longest(work))
					if rig.k.most > replica.TurnOps {
						b.Fatalf("%d operations in one turn", rig.k.most)
					}
				}
				slices.Sort(all)
				ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
				b.ReportMetric(0, "ns/op") // most of it prepares
				b.ReportMetric(ms(all[len(all)/2]), "ms/longest-turn")
				b.ReportMetric(ms(all[len(all)-1]), "ms/worst-turn")
			})
		}
	}
}
