package lab

import (
	"fmt"
	"testing"
	"time"
)

// TestWatchLeavesOutStandstill: only sleeps that are far too long count as one.
func TestWatchLeavesOutStandstill(t *testing.T) {
	now := time.Unix(1000, 0)
	var extra time.Duration
	w := newWatch(func() time.Time { return now }, func(d time.Duration) { now = now.Add(d + extra) })
	w.Sleep(5 * time.Millisecond)
	extra = 15 * time.Millisecond // ticks
	w.Sleep(5 * time.Millisecond)
	if got, want := w.Elapsed(), 25*time.Millisecond; got != want {
		t.Errorf("on a machine that runs: elapsed %v, not %v", got, want)
	}
	extra = 700 * time.Millisecond
	w.Sleep(5 * time.Millisecond)
	if got, want := w.Elapsed(), 30*time.Millisecond; got != want {
		t.Errorf("after it stood still: elapsed %v, not %v", got, want)
	}
}

type fatal struct {
	T
	said string
}

func (f *fatal) Helper()                   {}
func (f *fatal) Fatalf(s string, a ...any) { f.said = fmt.Sprintf(s, a...) }

func TestEventuallyGivesUp(t *testing.T) {
	f, looks := &fatal{T: t}, 0
	Eventually(f, 20*time.Millisecond, "the moon is blue", func() bool { looks++; return false })
	if f.said == "" || looks < 2 {
		t.Errorf("after %d looks it said %q", looks, f.said)
	}
}
