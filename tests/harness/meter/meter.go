package meter

import (
	"sync"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

const (
	nativeTick   = time.Millisecond
	guestTick    = 5 * time.Millisecond // the resolution of gaps there
	receiveEvery = 20 * time.Millisecond
	settle       = 300 * time.Millisecond // without an arrival, after which nothing is on its way
)

// Meter runs flows: one goroutine sends for all of them, one receives. Times of
// arrival are the kernel's, so it does not matter when they are read.
type Meter struct {
	Flows []*Flow

	t    lab.T
	stop chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// Start starts flows; they stop when the test ends. In a guest that is slow
// ([harness.Slow]) they send that much less often. It first waits, for a second
// at most, until there is a path for each.
func Start(t lab.T, flows ...Config) *Meter {
	t.Helper()
	m := &Meter{t: t, stop: make(chan struct{})}
	for _, cfg := range flows {
		f, err := newFlow(cfg)
		if err != nil {
			t.Fatalf("%v", err)
		}
		m.Flows = append(m.Flows, f)
	}
	m.openPaths()
	// Without the monotonic clock: arrivals have none.
	now := time.Now().Round(0)
	for _, f := range m.Flows {
		f.start = now
	}
	sent := make(chan struct{})
	m.done.Go(func() {
		defer close(sent)
		m.sendAll()
	})
	m.done.Go(func() { m.receiveAll(sent) })
	t.Cleanup(m.Stop)
	return m
}

// openPaths sends single packets that do not count until one has arrived on
// every flow, so that neighbours are resolved and code is in memory before the
// measurement starts. Where there is no path it gives up soon: a test may want that.
func (m *Meter) openPaths() {
	for range 20 {
		open := true
		for _, f := range m.Flows {
			f.sendProbe()
		}
		time.Sleep(50 * time.Millisecond)
		for _, f := range m.Flows {
			if !f.receiveAll() && !f.open {
				open = false
			}
		}
		if open {
			return
		}
	}
}

func (m *Meter) sendAll() {
	every := nativeTick
	if harness.Guest() {
		every = harness.Scaled(guestTick)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			for _, f := range m.Flows {
				f.ended()
			}
			return
		case <-tick.C:
			now := time.Now()
			for _, f := range m.Flows {
				f.sendDue(now)
			}
		}
	}
}

// receiveAll reads until nothing has come for a while after the last packet was sent.
func (m *Meter) receiveAll(sent <-chan struct{}) {
	tick := time.NewTicker(receiveEvery)
	defer tick.Stop()
	last := time.Now()
	for now := range tick.C {
		for _, f := range m.Flows {
			if f.receiveAll() {
				last = now
			}
		}
		select {
		case <-sent:
			if now.Sub(last) > harness.Scaled(settle) {
				return
			}
		default:
			last = now
		}
	}
}

// Stop stops sending, and returns when all has arrived that will.
func (m *Meter) Stop() {
	m.once.Do(func() {
		close(m.stop)
		m.done.Wait()
		for _, f := range m.Flows {
			f.close()
			if f.err != nil {
				m.t.Errorf("%v", f.err)
			}
		}
	})
}

// Received is the number of packets that arrived so far on the flow with the fewest.
func (m *Meter) Received() int {
	least := -1
	for _, f := range m.Flows {
		if n := f.Received(); least < 0 || n < least {
			least = n
		}
	}
	return least
}

// Between reports on all flows together: sums, and the longest gap of any.
func (m *Meter) Between(from, to time.Time) Report {
	all := Report{Name: "all flows"}
	for _, f := range m.Flows {
		all.add(f.Between(from, to))
	}
	return all
}

// Total is [Meter.Between] for the whole time.
func (m *Meter) Total() Report { return m.Between(m.Flows[0].start, time.Now()) }
