package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"sasyncd/kernel/kerneltest"
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

var tookPattern = regexp.MustCompile(`standby is complete .* took=(\S+)`)

// completions is how often a standby of a master has become complete, and how
// long the last one took.
func completions(t lab.T, m *cluster.Node) (n int, last time.Duration) {
	t.Helper()
	all := tookPattern.FindAllStringSubmatch(m.Daemon.Output(), -1)
	if len(all) == 0 {
		return 0, 0
	}
	last, err := time.ParseDuration(all[len(all)-1][1])
	if err != nil {
		t.Fatalf("the master's log: %v", err)
	}
	return len(all), last
}

// complete starts a standby, waits until it has all, and returns how long the
// master says that took. The standby is not asked: each answer costs it a look at
// all SAs, which once was a fifth of its work in this benchmark.
func complete(t lab.T, m, s *cluster.Node) (took time.Duration) {
	t.Helper()
	before, _ := completions(t, m)
	s.Start()
	defer profile(m, s)()
	lab.Eventually(t, cluster.SyncLimit, s.Name+" to be complete", func() bool {
		time.Sleep(20 * time.Millisecond) // nor the log read all the time
		n, last := completions(t, m)
		took = last
		return n > before
	})
	return took
}

// snapshot: a standby that comes with empty tables.
func snapshot(t lab.T) []result.Line {
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	m.Apply(sadb.OpAddSA, cluster.SAs(newRand(), many)...)
	from, to := bare.Open(t, m), bare.Open(t, s)
	flush := flusher(s)
	m.Start()
	var floor, warm, took []time.Duration
	for range rounds {
		fresh, again := bare.Copy(t, bare.SAs, from, to, flush)
		floor, warm = append(floor, fresh.Total()), append(warm, again)
		flush()
		took = append(took, complete(t, m, s))
		c.WaitEqual(cluster.SyncLimit, s)
		s.Stop()
	}
	ratio := float64(median(floor)) / float64(median(took))
	return []result.Line{{What: fmt.Sprintf("snapshot of %d SAs to an empty standby", many), Target: ">= 0.80 of a bare copy",
		Figure: ms(median(took)), Floor: ms(median(floor)), Ratio: ratio, Verdict: result.Of(ratio >= 0.8),
		Note: fmt.Sprintf("the standby and the bare loop are both processes that have just started; in memory that was used before the loop takes %s", ms(median(warm)))}}
}

// arrivals notes when SAs appear in a node's kernel.
type arrivals struct {
	mu   sync.Mutex
	at   map[uint32]time.Time // by SPI
	last time.Time
	n    int
	wake chan struct{}
}

// reset forgets all.
func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.n = make(map[uint32]time.Time), 0
}

func (a *arrivals) count() (int, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n, a.last
}

func (a *arrivals) of(spi uint32) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.at[spi]
	return at, ok
}

// watch notes the arrivals at a node.
func watch(t lab.T, nd *cluster.Node) *arrivals {
	t.Helper()
	a := &arrivals{wake: make(chan struct{}, 1)}
	a.reset()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := nd.Kernel.Watch(ctx)
	if err != nil {
		t.Fatalf("watch %s: %v", nd.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ev := range events {
			if ev.Kind == sadb.EventPutSA {
				now := time.Now()
				a.mu.Lock()
				a.at[ev.SA.Key.SPI], a.last = now, now
				a.n++
				a.mu.Unlock()
				select {
				case a.wake <- struct{}{}:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

// latency: one SA at a time.
func latency(t lab.T) []result.Line {
	r := newRand()
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	m.Apply(sadb.OpAddSA, cluster.SAs(r, present)...)
	c.Start()
	a := watch(t, s)
	var took []time.Duration
	defer profile(m, s)()
	for _, sa := range cluster.SAs(r, samples) {
		time.Sleep(time.Duration(5+r.IntN(20)) * time.Millisecond) // not in step with anything
		began := time.Now()
		m.Apply(sadb.OpAddSA, sa)
		for {
			if at, ok := a.of(sa.Key.SPI); ok {
				took = append(took, at.Sub(began))
				break
			}
			select { // polling would take time from what is measured
			case <-a.wake:
			case <-time.After(5 * time.Second):
				t.Fatalf("an SA did not arrive within 5 s")
			}
		}
	}
	p50, p99 := quantile(took, 0.5), quantile(took, 0.99)
	what := fmt.Sprintf("one SA added -> in the standby's kernel, %d present, ", present)
	return []result.Line{
		{What: what + "p50", Target: "<= 2 ms", Figure: ms(p50), Verdict: result.Of(p50 <= 2*time.Millisecond)},
		{What: what + "p99", Target: "<= 20 ms", Figure: ms(p99), Verdict: result.Of(p99 <= 20*time.Millisecond)},
	}
}

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
		{What: "sustained churn (rekeys per second)", Target: ">= 0.50 of the bare generator", Figure: fmt.Sprintf("%.0f/s", reached),
			Floor: fmt.Sprintf("%.0f/s on two kernels", both), Ratio: ratio, Verdict: result.Of(ratio >= 0.5),
			Note: fmt.Sprintf("offered at 0.55 of the floor for %v; the generator on one kernel alone makes %.0f/s", churnFor, one)},
		{What: "lag under that churn, p99", Target: "<= 250 ms", Figure: ms(p99), Verdict: result.Of(p99 <= 250*time.Millisecond),
			Note: fmt.Sprintf("p50 %s, largest %s", ms(median(lag)), ms(quantile(lag, 1)))},
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
		{What: fmt.Sprintf("counters of %d SAs every second: user time of the master", many), Target: "<= 5 % of a processor",
			Figure: fmt.Sprintf("%.1f %%", 100*share), Verdict: result.Of(share <= 0.05),
			Note: fmt.Sprintf("%d readings in %v; the standby used %.1f %% user, %.1f %% system", n, took.Round(time.Millisecond),
				100*float64(v1-v0)/float64(took), 100*float64(w1-w0-v1+v0)/float64(took))},
		{What: "the same, user and system, for each reading", Target: "<= 2.0 bare dumps", Figure: ms(time.Duration(total)), Floor: ms(time.Duration(floor)),
			Ratio: total / floor, Verdict: result.Of(total <= 2*floor)},
		{What: "the same, bytes on the wire for each counter", Target: "<= 20", Figure: fmt.Sprintf("%.1f", each), Verdict: result.Of(each <= 20)},
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
		c.Eventually(5*time.Second, "the loss of events to be counted", func() bool { return m.Counts().Resyncs > resyncs })
	}
	note := fmt.Sprintf("bare install of %d SAs: %s", many, ms(install))
	line := func(what string, d time.Duration) result.Line {
		return result.Line{What: what, Target: "<= 2 s beyond the bare install", Figure: ms(d), Verdict: result.Of(d <= 2*time.Second), Note: note}
	}
	return []result.Line{
		line(fmt.Sprintf("recovery from a flush of a standby's %d SAs", many), median(flush)),
		line(fmt.Sprintf("recovery from events lost on a master of %d SAs", many), median(lost)),
	}
}

// overflow makes more events than the paused daemon's buffer of 64 MiB holds,
// by the change that costs the kernel least.
func overflow(t lab.T, nd *cluster.Node) {
	t.Helper()
	p := kerneltest.SamplePolicy(sadb.DirOut, "10.250.0.0/16", "10.251.0.0/16", "192.0.2.1", "198.51.100.1")
	for len(p.Templates) < 6 {
		p.Templates = append(p.Templates, p.Templates[0])
	}
	ops := slices.Repeat([]sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: p}}, 1000)
	for range 120 {
		if err := errors.Join(nd.Kernel.Apply(t.Context(), ops)...); err != nil {
			t.Fatalf("update a policy: %v", err)
		}
	}
}

var gcPattern = regexp.MustCompile(`gc \d+ @.*->(\d+) MB, \d+ MB goal`)

// heap: what is alive after a collection, as the runtime says (GODEBUG=gctrace).
func heap(t lab.T) []result.Line {
	if err := os.Setenv("GODEBUG", "gctrace=1"); err != nil {
		t.Fatalf("%v", err)
	}
	defer os.Unsetenv("GODEBUG")
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	m.Apply(sadb.OpAddSA, cluster.SAs(newRand(), huge)...)
	for _, nd := range c.Nodes {
		nd.Extra = "replay interval 5s" // one processor for all has better to do
		nd.Start()
	}
	c.Eventually(180*time.Second, "the standby to be complete", func() bool {
		st, err := s.Ask()
		return err == nil && st.Groups[0].InSync && st.Groups[0].SAs == huge
	})
	profile(m, s)()
	// The runtime collects at least every two minutes.
	before := [2]int{len(collections(m)), len(collections(s))}
	c.Eventually(180*time.Second, "collections", func() bool {
		return len(collections(m)) > before[0] && len(collections(s)) > before[1]
	})
	line := func(who string, nd *cluster.Node, skip int) result.Line {
		list := collections(nd)[skip:]
		mb := slices.Sorted(slices.Values(list))[len(list)/2]
		perSA := mb << 20 / huge
		return result.Line{What: fmt.Sprintf("live heap of the %s for each of %d SAs", who, huge), Target: "<= 1024 bytes",
			Figure: fmt.Sprintf("%d bytes", perSA), Verdict: result.Of(perSA <= 1024),
			Note: fmt.Sprintf("%d collections, smallest %d MB, largest %d MB", len(list), slices.Min(list), slices.Max(list))}
	}
	return []result.Line{line("master", m, before[0]), line("standby", s, before[1])}
}

// collections are the live heaps of a daemon, in MiB.
func collections(nd *cluster.Node) (list []int) {
	for _, x := range gcPattern.FindAllStringSubmatch(nd.Daemon.Output(), -1) {
		n, err := strconv.Atoi(x[1])
		if err == nil {
			list = append(list, n)
		}
	}
	return list
}
