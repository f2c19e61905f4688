package replica

import (
	"slices"
	"testing"
	"time"

	"sasyncd/sync/sadb"
)

// TestHoldback: a deletion is kept for its time from when it was held first, can be taken
// back, and goes at once when its traffic is covered.
func TestHoldback(t *testing.T) {
	now := time.Unix(1e9, 0)
	a, b, c := sadb.SAKey{SPI: 1}, sadb.SAKey{SPI: 2}, sadb.SAKey{SPI: 3}
	p, q := sadb.PolicyKey{IfID: 1}, sadb.PolicyKey{IfID: 2}
	h := NewHoldback()
	due := func(when string, at time.Time, sas []sadb.SAKey, policies []sadb.PolicyKey) {
		t.Helper()
		items := 0
		m := h.Due(at, func() { items++ })
		slices.SortFunc(m.SAs, func(x, y sadb.SAKey) int { return int(x.SPI) - int(y.SPI) })
		slices.SortFunc(m.Policies, func(x, y sadb.PolicyKey) int { return int(x.IfID) - int(y.IfID) })
		if !slices.Equal(m.SAs, sas) || !slices.Equal(m.Policies, policies) || items != h.Len() {
			t.Errorf("%s: due %v of %d, counted %d", when, m, h.Len(), items)
		}
	}
	due("nothing", now, nil, nil)
	until := now.Add(2 * time.Second)
	for _, k := range []sadb.SAKey{a, b, c} {
		if !h.HoldSA(k, until) || h.HoldSA(k, now) {
			t.Errorf("%v: what is held already is not held again", k)
		}
	}
	for _, k := range []sadb.PolicyKey{p, q} {
		if !h.HoldPolicy(k, until) || h.HoldPolicy(k, now) {
			t.Errorf("%v: what is held already is not held again", k)
		}
	}
	if h.Len() != 5 {
		t.Errorf("%d are kept, want 5", h.Len())
	}
	due("too early", until.Add(-1), nil, nil)
	due("in time", until, []sadb.SAKey{a, b, c}, []sadb.PolicyKey{p, q})
	h.CancelSA(a)
	h.CancelPolicy(p)
	due("taken back", until, []sadb.SAKey{b, c}, []sadb.PolicyKey{q})
	h.Release(now, func(k sadb.SAKey) bool { return k == c })
	due("one is covered", now, []sadb.SAKey{c}, nil)
	h.Release(now, func(k sadb.SAKey) bool { // taken back in a pause
		if k == b {
			h.CancelSA(b)
		}
		return k == b
	})
	due("taken back meanwhile", until, []sadb.SAKey{c}, []sadb.PolicyKey{q})
	if !h.TakeSA(c) || h.TakeSA(c) || h.TakeSA(b) || !h.TakePolicy(q) || h.TakePolicy(q) || h.TakePolicy(p) {
		t.Error("what is taken is taken once, and what has come back not at all")
	}
	if h.Len() != 0 {
		t.Errorf("%d are kept, want none", h.Len())
	}
}
