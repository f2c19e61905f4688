package keying

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestPacer: with each remote few negotiations are under way; one that is silent does not
// hold up its others for long, and none is tried twice.
func TestPacer(t *testing.T) {
	now := time.Unix(1e9, 0)
	all := []tunnel{{"a", "1", "x"}, {"a", "2", "x"}, {"a", "3", "x"}, {"a", "4", "x"}, {"b", "1", "y"}}
	ids := func(list ...string) map[tunnelID]bool {
		m := make(map[tunnelID]bool)
		for _, s := range list {
			m[tunnelID{s[:1], s[1:]}] = true
		}
		return m
	}
	p := newPacer(0)
	step := func(when string, after time.Duration, up, busy map[tunnelID]bool, want Outcome, begin ...string) {
		t.Helper()
		now = now.Add(after)
		start, out := p.step(now, all, up, busy)
		var got []string
		for _, t := range start {
			got = append(got, t.conn+t.child)
		}
		if !slices.Equal(got, begin) || out != want {
			t.Errorf("%s: begins %v, %+v, want %v, %+v", when, got, out, begin, want)
		}
		if out.done() != (want.Up+want.Failed >= want.Wanted) {
			t.Errorf("%s: done %v", when, out.done())
		}
	}
	step("at first", 0, nil, nil, Outcome{Wanted: 5, Pending: 3}, "a1", "a2", "b1")
	step("at once", 0, nil, nil, Outcome{Wanted: 5, Pending: 3})
	step("a moment later", bornTime, nil, ids("a2"), Outcome{Wanted: 5, Pending: 3})
	step("one is up", time.Millisecond, ids("a1", "b1"), ids("a2"), Outcome{Wanted: 5, Up: 2, Pending: 2}, "a3")
	step("one is not begun", bornTime+1, ids("a1", "b1"), ids("a2"), Outcome{Wanted: 5, Up: 2, Failed: 1, Pending: 2},
		"a4")
	if why := p.failed[tunnelID{"a", "3"}]; why != "the remote refused or does not answer" {
		t.Errorf("failed for %q", why)
	}
	step("it is up all the same", 0, ids("a1", "b1", "a3"), ids("a2", "a4"), Outcome{Wanted: 5, Up: 3, Pending: 2})
	if len(p.failed) != 0 {
		t.Errorf("failed %v", p.failed)
	}
	step("it is down again", 0, ids("a1", "b1"), ids("a2", "a4"), Outcome{Wanted: 5, Up: 2, Failed: 1, Pending: 2})
	p.refuse(all[3], "no such child")
	step("refused", giveUpTime/2, ids("a1", "b1", "a3"), ids("a2"), Outcome{Wanted: 5, Up: 3, Failed: 1, Pending: 1})
	step("for long", giveUpTime, ids("a1", "b1", "a3"), ids("a2"), Outcome{Wanted: 5, Up: 3, Failed: 2})
	if want := map[tunnelID]string{{"a", "4"}: "no such child", {"a", "2"}: "not up within 1m0s"}; !maps.Equal(p.failed,
		want) {
		t.Errorf("failed %v, want %v", p.failed, want)
	}
	// Of a silent remote others are tried after a while.
	p = newPacer(1)
	busy := ids("a1", "a2", "a3", "a4", "b1")
	step("one at a time", 0, nil, busy, Outcome{Wanted: 5, Pending: 2}, "a1", "b1")
	step("still", slotTime-1, nil, busy, Outcome{Wanted: 5, Pending: 2})
	step("silent", 1, nil, busy, Outcome{Wanted: 5, Pending: 3}, "a2")
	step("until it is given up", giveUpTime-slotTime, nil, busy, Outcome{Wanted: 5, Pending: 4}, "a3")
	step("then", 1, nil, busy, Outcome{Wanted: 5, Failed: 2, Pending: 2})
}
