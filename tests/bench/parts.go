package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/bench/bare"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

// Sizes and repetitions.
const (
	many     = 10_000
	present  = 1_000
	huge     = 100_000
	rounds   = 3
	samples  = 200
	churnFor = 5 * time.Second
	countFor = 20 * time.Second
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)) }

func flusher(nd *cluster.Node) func() { return func() { nd.Run("ip xfrm state flush") } }

// rekey adds one SA and deletes another, each with a system call of its own, as
// an IKE daemon does.
func rekey(t lab.T, nd *cluster.Node, add, del *sadb.SA) {
	nd.Apply(sadb.OpAddSA, add)
	nd.Apply(sadb.OpDeleteSA, del)
}

// generations returns n SAs and as many successors with the same ends.
func generations(r *rand.Rand, n int) (old, fresh []*sadb.SA) {
	old, fresh = cluster.SAs(r, n), cluster.SAs(r, n)
	for i, sa := range fresh {
		sa.Src, sa.Key.Dst, sa.Reqid = old[i].Src, old[i].Key.Dst, old[i].Reqid
	}
	return old, fresh
}

// churn: rekeys without end. The floor is the generator alone. On one processor
// the standby's kernel takes its time for the same work from the generator, so
// there the floor is a generator that does it on both. What notes the arrivals
// runs in both cases.
func churn(t lab.T) []result.Line {
	r := newRand()
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	const pool = 20_000
	a := watch(t, s)
	old, fresh := generations(r, present)
	sent := make(map[uint32]time.Time, pool)
	bareRate := func(nodes ...*cluster.Node) float64 {
		for _, nd := range nodes {
			nd.Apply(sadb.OpAddSA, old...)
		}
		began := time.Now()
		for i := range present {
			sent[fresh[i].Key.SPI] = time.Now() // as below
			for _, nd := range nodes {
				rekey(t, nd, fresh[i], old[i])
			}
		}
		rate := present / time.Since(began).Seconds()
		for _, nd := range nodes {
			flusher(nd)()
		}
		return rate
	}
	one, both := bareRate(m), bareRate(m, s)
	m.Apply(sadb.OpAddSA, old...)
	c.Start()
	a.reset()
	old, fresh = generations(r, pool)
	rate := both * 0.55
	clear(sent)
	end := profile(m, s)
	began := time.Now()
	n := 0
	for n < pool {
		now := time.Now()
		passed := now.Sub(began)
		if passed >= churnFor {
			break
		}
		if due := time.Duration(float64(n) / rate * float64(time.Second)); passed < due {
			time.Sleep(due - passed)
			continue
		}
		sent[fresh[n].Key.SPI] = now
		m.Apply(sadb.OpAddSA, fresh[n])
		if n >= present {
			m.Apply(sadb.OpDeleteSA, fresh[n-present])
		}
		n++
	}
	reached := float64(n) / time.Since(began).Seconds()
	_ = old
	end()
	c.Eventually(30*time.Second, "the last SA to arrive", func() bool { _, ok := a.of(fresh[n-1].Key.SPI); return ok })
	var lag []time.Duration
	for spi, at := range sent {
		if seen, ok := a.of(spi); ok {
			lag = append(lag, seen.Sub(at))
		}
	}
	if missing := n - len(lag); missing > 0 {
		t.Logf("%d SAs were deleted before they could be seen", missing)
	}
	c.WaitEqual(cluster.SyncLimit, s)
	p99 := quantile(lag, 0.99)
	ratio := reached / both
	return []result.Line{
		{What: "sustained churn (rekeys per second)", Target: ">= 0.50 of the bare generator",
			Figure: fmt.Sprintf("%.0f/s", reached),
			Floor:  fmt.Sprintf("%.0f/s on two kernels", both), Ratio: ratio, Verdict: result.Of(ratio >= 0.5),
			Note: fmt.Sprintf("offered at 0.55 of the floor for %v; the generator on one kernel alone makes %.0f/s",
				churnFor, one)},
		{What: "lag under that churn, p99", Target: "<= 250 ms", Figure: ms(p99),
			Verdict: result.Of(p99 <= 250*time.Millisecond),
			Note:    fmt.Sprintf("p50 %s, largest %s", ms(median(lag)), ms(quantile(lag, 1)))},
	}
}

// counters: all of 10,000 SAs move every second.
func counters(t lab.T) []result.Line {
	r := newRand()
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	list := cluster.SAs(r, many)
	m.Apply(sadb.OpAddSA, list...)
	c.Start()
	c.WaitEqual(cluster.SyncLimit, s)

	b := bare.Open(t, m)
	move := func() {
		ops := make([]sadb.Op, len(list))
		for i, sa := range list {
			u := *sa
			n := 1 + r.Uint64N(1000)
			u.OSeq, u.Packets, u.Bytes, u.Used = sa.OSeq+n, sa.Packets+n, sa.Bytes+n*900, true
			list[i] = &u
			ops[i] = sadb.Op{Kind: sadb.OpSetCounters, SA: &u}
		}
		if err := errors.Join(m.Kernel.Apply(t.Context(), ops)...); err != nil {
			t.Fatalf("move counters: %v", err)
		}
	}
	end := profile(m, s)
	before, bytes0 := m.Counts(), sentBytes(t, m)
	u0, s0 := cpu(t, m.Daemon.PID())
	v0, w0 := cpu(t, s.Daemon.PID())
	// The floor is measured meanwhile, as often, with the same caches.
	var dumps []time.Duration
	began := time.Now()
	for i := 1; time.Since(began) < countFor; i++ {
		move()
		time.Sleep(300 * time.Millisecond)
		dumps = append(dumps, threadCPU(t, func() {
			if n, err := b.Dump(bare.SAs, nil); err != nil || n != many {
				t.Fatalf("bare dump: %d SAs, %v", n, err)
			}
		}))
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second)))
	}
	took := time.Since(began)
	u1, s1 := cpu(t, m.Daemon.PID())
	v1, w1 := cpu(t, s.Daemon.PID())
	after, bytes1 := m.Counts(), sentBytes(t, m)
	end()
	sent := after.CountersSent - before.CountersSent
	if sent < many*uint64(took.Seconds())*8/10 {
		t.Errorf("%d counters were sent in %v, want %d each second", sent, took, many)
	}
	n := after.Dumps - before.Dumps
	share := float64(u1-u0) / float64(took)
	// Means on both sides: what disturbs one disturbs the other as much.
	floor := 0.0
	for _, d := range dumps {
		floor += float64(d) / float64(len(dumps))
	}
	total := float64(s1-s0) / float64(n)
	each := float64(bytes1-bytes0) / float64(sent)
	return []result.Line{
		{What: fmt.Sprintf("counters of %d SAs every second: user time of the master", many),
			Target: "<= 5 % of a processor",
			Figure: fmt.Sprintf("%.1f %%", 100*share), Verdict: result.Of(share <= 0.05),
			Note: fmt.Sprintf("%d readings in %v; the standby used %.1f %% user, %.1f %% system", n,
				took.Round(time.Millisecond),
				100*float64(v1-v0)/float64(took), 100*float64(w1-w0-v1+v0)/float64(took))},
		{What: "the same, user and system, for each reading", Target: "<= 2.0 bare dumps",
			Figure: ms(time.Duration(total)), Floor: ms(time.Duration(floor)),
			Ratio: total / floor, Verdict: result.Of(total <= 2*floor)},
		{What: "the same, bytes on the wire for each counter", Target: "<= 20", Figure: fmt.Sprintf("%.1f", each),
			Verdict: result.Of(each <= 20)},
	}
}

// sentBytes is what a node has sent on its first link, with all headers.
func sentBytes(t lab.T, nd *cluster.Node) uint64 {
	t.Helper()
	l, err := nd.Netlink().LinkByName("sync0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l.Attrs().Statistics.TxBytes
}

// recovery: tables that are lost, or events that are.
func recovery(t lab.T) []result.Line {
	r := newRand()
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	list := cluster.SAs(r, many)
	m.Apply(sadb.OpAddSA, list...)
	from, to := bare.Open(t, m), bare.Open(t, s)
	fresh, _ := bare.Copy(t, bare.SAs, from, to, flusher(s))
	install := fresh.Write
	c.Start()
	c.WaitEqual(cluster.SyncLimit, s)

	// Who listens for 10,000 events takes as long as who causes them, of the same
	// processor: the kernel is asked how many there are.
	var flush, lost []time.Duration
	for range rounds {
		flusher(s)()
		began := time.Now()
		c.Eventually(20*time.Second, "all SAs to be back", func() bool {
			n, err := to.Count()
			if err != nil {
				t.Fatalf("count SAs: %v", err)
			}
			return n >= many
		})
		flush = append(flush, time.Since(began)-install)
		c.WaitEqual(cluster.SyncLimit, s)
	}
	a := watch(t, s)
	for range rounds {
		resyncs := m.Counts().Resyncs
		m.Pause()
		overflow(t, m)
		fresh := cluster.SAs(r, 500)
		m.Apply(sadb.OpAddSA, fresh...)
		a.reset()
		m.Resume()
		began := time.Now()
		c.Eventually(20*time.Second, "the new SAs to arrive", func() bool { n, _ := a.count(); return n >= len(fresh) })
		_, last := a.count()
		lost = append(lost, last.Sub(began)-install*time.Duration(len(fresh))/many)
		c.WaitEqual(cluster.SyncLimit, s)
		c.Eventually(5*time.Second, "the loss of events to be counted",
			func() bool { return m.Counts().Resyncs > resyncs })
	}
	note := fmt.Sprintf("bare install of %d SAs: %s", many, ms(install))
	line := func(what string, d time.Duration) result.Line {
		return result.Line{What: what, Target: "<= 2 s beyond the bare install", Figure: ms(d),
			Verdict: result.Of(d <= 2*time.Second), Note: note}
	}
	return []result.Line{
		line(fmt.Sprintf("recovery from a flush of a standby's %d SAs", many), median(flush)),
		line(fmt.Sprintf("recovery from events lost on a master of %d SAs", many), median(lost)),
	}
}
