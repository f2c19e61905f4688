package sadb

import (
	"testing"
	"time"
)

// TestRetiredIsBeyondTheSuccessor: an ex-master and the successor that follows it
// have seen the same rates. The ex-master's counter is beyond what the successor
// began with, as far ahead as it may be, by a whole lead, in a jump that a receiver
// accepts.
func TestRetiredIsBeyondTheSuccessor(t *testing.T) {
	m := DefaultMargin()
	for _, peak := range []float64{0, 1000, 200_000, 500_000, 5e6, 1e9} {
		for _, stale := range []time.Duration{0, time.Second, 10 * time.Second} {
			for _, esn := range []bool{false, true} {
				const sent = 1_000_000
				lead, _ := m.Lead(esn, peak, 0)
				old, _ := m.Lead(esn, peak, stale)
				began := uint64(sent) + old
				for !m.Exceeds(esn, began+lead, sent, peak) { // the master does not hear of it
					began += lead
				}
				got, ok := m.Retired(esn, sent, peak, stale)
				if esn && got-sent > MaxLeadESN {
					t.Errorf("peak %g, 64 bit: a jump of %d is more than a receiver accepts", peak, got-sent)
				}
				if began+lead > MaxLegacy && !esn || began+lead-sent > MaxLeadESN {
					continue
				}
				if ok && got < began+lead {
					t.Errorf("peak %g, 64 bit %v, silent for %v: retired at %d, the successor began at %d with a "+
						"lead of %d", peak, esn, stale, got, began, lead)
				}
			}
		}
	}
}

// TestReportsThatComeTogether: the second of two reports that a full link has
// delayed does not look like a burst.
func TestReportsThatComeTogether(t *testing.T) {
	var r Rate
	r.Report(0, 0)
	r.Report(1000, time.Second)
	r.Report(2000, time.Second+time.Microsecond)
	if r.Peak() > 10_000 {
		t.Errorf("1000 packets a second look like %.0f", r.Peak())
	}
	var heir Rate
	heir.Remember(&r)
	heir.Report(5000, time.Hour)
	if heir.Peak() != r.Peak() {
		t.Errorf("a peak of %.0f is remembered as %.0f", r.Peak(), heir.Peak())
	}
}

// TestPeak: a burst is remembered for long, and fades; a higher rate counts at once.
func TestPeak(t *testing.T) {
	var r Rate
	at, n := time.Duration(0), uint64(0)
	second := func(packets uint64) {
		at, n = at+time.Second, n+packets
		r.Report(n, at)
	}
	second(0)
	second(1000)
	if r.Peak() != 1000 || r.Last() != 1000 {
		t.Errorf("after 1000 packets in a second: peak %.0f, last %.0f", r.Peak(), r.Last())
	}
	second(10)
	if r.Peak() < 990 || r.Last() != 10 {
		t.Errorf("a second after the burst: peak %.0f, last %.0f", r.Peak(), r.Last())
	}
	for range 599 {
		second(10)
	}
	if r.Peak() < 450 || r.Peak() > 550 {
		t.Errorf("ten minutes after a burst of 1000: %.0f, want half", r.Peak())
	}
	second(2000)
	if r.Peak() != 2000 {
		t.Errorf("after a higher one: %.0f", r.Peak())
	}
	n = 0 // another master, which has heard less
	if r.Report(n, at+time.Second); r.Peak() != 2000 {
		t.Errorf("after a count that went back: peak %.0f", r.Peak())
	}
	var o Rate
	o.Remember(&r)
	r.Remember(&Rate{})
	if o.Peak() != 2000 || r.Peak() != 2000 {
		t.Errorf("taken over: %.0f and %.0f", o.Peak(), r.Peak())
	}
}
