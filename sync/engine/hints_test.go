package engine

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// TestHintsDelay: I18, case by case.
func TestHintsDelay(t *testing.T) {
	own, far := wire.NodeID{1}, wire.NodeID{3}
	master := []Hint{{Node: far, Role: wire.RoleMaster}}
	start := time.Unix(1e9, 0)
	for name, tt := range map[string]struct {
		r         Readiness
		list      []Hint
		connected bool
		first     time.Duration // before now, when the first hint came; 0: it comes now
		want      bool
	}{
		"a MASTER is seen":        {list: master, want: true},
		"nobody is seen":          {list: nil},
		"in sync":                 {r: Readiness{InSync: true}, list: master},
		"a better one is heard":   {r: Readiness{Behind: true}, list: master},
		"a backup is seen":        {list: []Hint{{Node: far, Role: wire.RoleBackup}}},
		"this node":               {list: []Hint{{Node: own, Role: wire.RoleMaster}}},
		"a member with a session": {list: master, connected: true},
		"as old as can be":        {list: []Hint{{Node: far, Role: wire.RoleMaster, Age: hintFresh}}, want: true},
		"stale":                   {list: []Hint{{Node: far, Role: wire.RoleMaster, Age: hintFresh + 1}}},
		"from the future":         {list: []Hint{{Node: far, Role: wire.RoleMaster, Age: -1}}},
		"a backup, then a MASTER": {list: []Hint{{Node: wire.NodeID{2}, Role: wire.RoleBackup}, master[0]},
			want: true},
		"for nearly as long as can":  {list: master, first: hintLimit - 1, want: true},
		"for as long as can":         {list: master, first: hintLimit},
		"for longer than it may be":  {list: master, first: 2 * hintLimit},
		"long ago, and now in sync":  {r: Readiness{InSync: true}, list: master, first: 2 * hintLimit},
		"long ago, and now a better": {r: Readiness{Behind: true}, list: master, first: 2 * hintLimit},
	} {
		h := hinted{}
		if tt.first > 0 {
			h.since = start.Add(-tt.first)
		}
		if got := h.delay(start, tt.r, own, tt.list, func(wire.NodeID) bool { return tt.connected }); got != tt.want {
			t.Errorf("%s: delayed is %v", name, got)
		}
		if reset := tt.r.InSync || tt.r.Behind; reset && !h.since.IsZero() {
			t.Errorf("%s: an hour that is over goes on", name)
		}
	}
}

// TestHintsNeverHasten: whatever hints come, when, a node may take over no earlier
// than without them, and waits for them no longer than hintLimit.
func TestHintsNeverHasten(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 18))
		var h hinted
		now := time.Unix(1e9, 0)
		var first time.Time // since when hints may have delayed
		for range 2000 {
			now = now.Add(time.Duration(r.IntN(10_000)) * time.Millisecond)
			state := Readiness{InSync: r.IntN(500) == 0, Behind: r.IntN(500) == 0}
			var list []Hint
			for range r.IntN(3) {
				list = append(list, Hint{Node: wire.NodeID{byte(r.IntN(4))}, Role: wire.Role(r.IntN(4)),
					Age: time.Duration(r.IntN(10_000)-1000) * time.Millisecond})
			}
			there := r.IntN(2) == 0
			delayed := h.delay(now, state, wire.NodeID{1}, list, func(wire.NodeID) bool { return there })
			if state.InSync || state.Behind {
				first = time.Time{}
				if delayed {
					t.Fatalf("seed %d: %+v is delayed", seed, state)
				}
			}
			if delayed && first.IsZero() {
				first = now
			}
			if delayed && now.Sub(first) >= hintLimit {
				t.Fatalf("seed %d: delayed for %v", seed, now.Sub(first))
			}
		}
	}
}

// TestCutOffFromTheMaster: a standby loses the MASTER and keeps its session with the
// other standby, which holds no more than it does. Once it is not in sync it would
// take over alone, were it not for the hint. When the hints end it may.
func TestCutOffFromTheMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		var hints atomic.Bool
		w.nodes[1].hints = func(group string) []Hint {
			if !hints.Load() || group != simGroup {
				return nil
			}
			return []Hint{{Node: wire.NodeID{1}, Role: wire.RoleMaster, Age: time.Second}}
		}
		for i, n := range w.nodes {
			n.boot(uint64(100 + i))
			n.role(map[bool]wire.Role{true: wire.RoleMaster, false: wire.RoleBackup}[i == 0], 1)
		}
		w.connect(0, 1)
		w.connect(0, 2)
		w.connect(1, 2)
		time.Sleep(5 * time.Second)
		look := func(when string, inSync, behind bool) {
			t.Helper()
			if r := w.ready(1); r.InSync != inSync || r.Behind != behind {
				t.Errorf("%s: in sync %v, behind %v: %s", when, r.InSync, r.Behind, r.Reason)
			}
		}
		w.cut(0, 1)
		hints.Store(true)
		time.Sleep(5 * time.Second)
		look("complete when contact was lost", true, false)
		time.Sleep(10 * time.Second)
		look("another passes on that there is a MASTER", false, true)
		hints.Store(false)
		time.Sleep(time.Second)
		look("nobody says so any more", false, false)
		w.connect(0, 1)
		time.Sleep(5 * time.Second)
		look("the link is whole", true, true)
		hints.Store(true)
		w.cut(0, 1)
		time.Sleep(20 * time.Second)
		look("cut again", false, true)
	})
}
