package main

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/bench/bare"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

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
	return []result.Line{{What: fmt.Sprintf("snapshot of %d SAs to an empty standby", many),
		Target: ">= 0.80 of a bare copy",
		Figure: ms(median(took)), Floor: ms(median(floor)), Ratio: ratio, Verdict: result.Of(ratio >= 0.8),
		Note: fmt.Sprintf("the standby and the bare loop are both processes that have just started; in memory that "+
			"was used before the loop takes %s", ms(median(warm)))}}
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
