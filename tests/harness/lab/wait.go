package lab

import (
	"time"

	"sasyncd/tests/harness"
)

// Eventually polls cond until it holds, and ends the test when it still does not
// after the limit, which a slow guest stretches; what says what was waited for. It
// returns how long that took, without the time in which the machine stood still.
func Eventually(t T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	limit = harness.Scaled(limit)
	w := NewWatch()
	for {
		if cond() {
			return w.Elapsed()
		}
		if w.Elapsed() > limit {
			t.Fatalf("waited %v in vain (and %v in which the machine stood still): %s", limit,
				w.still.Round(time.Millisecond), what)
			return limit // a program's T may not end the goroutine
		}
		w.Sleep(5 * time.Millisecond)
	}
}

// Watch measures how long something takes on a machine that now and then does
// not run at all: a virtual one whose host is busy. What overslept cannot have
// seen the network, and no daemon in the same guest ran either. The zero Watch
// is not usable. A Watch is for one goroutine.
type Watch struct {
	start time.Time
	still time.Duration
	now   func() time.Time
	sleep func(time.Duration)
}

// late is by how much a sleep is longer than asked for on a machine that runs:
// a few ticks of a guest's clock.
const late = 20 * time.Millisecond

// NewWatch starts a watch.
func NewWatch() *Watch { return newWatch(time.Now, time.Sleep) }

func newWatch(now func() time.Time, sleep func(time.Duration)) *Watch {
	return &Watch{start: now(), now: now, sleep: sleep}
}

// Elapsed is the time since the start without what Sleep overslept.
func (w *Watch) Elapsed() time.Duration { return w.now().Sub(w.start) - w.still }

// Sleep sleeps and notes by how much too long.
func (w *Watch) Sleep(d time.Duration) {
	before := w.now()
	w.sleep(d)
	if over := w.now().Sub(before) - d; over > late {
		w.still += over
	}
}
