package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sasyncd/sync/wire"
)

// three boots a master and two standbys, all joined.
func three(t *testing.T) *world {
	w := newWorld(t, 3)
	w.join(100)
	time.Sleep(2 * time.Second)
	return w
}

// handOver plays the election of a hand-over by the first node.
func (w *world) handOver(next int) {
	old, to := w.nodes[0], w.nodes[next]
	old.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1}
	time.Sleep(20 * time.Millisecond)
	to.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}
	to.elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleMaster, Term: 2,
		VIPs: simVIPs, Reason: "takeover"}
	time.Sleep(10 * time.Millisecond)
	old.role(wire.RoleBackup, 1)
	time.Sleep(time.Second)
}

// Whichever standby is named takes over, and the other one holds back until that
// is settled.
func TestHandOverToOneStandby(t *testing.T) {
	for next, name := range map[int]string{1: name1, 2: name2} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { handOverTo(t, next, name) }) })
	}
}

func handOverTo(t *testing.T, next int, name string) {
	w := three(t)
	defer w.stop()
	old, to, other := w.nodes[0], w.nodes[next], w.nodes[3-next]
	d, err := old.engine.Direct(t.Context(), simGroup, name)
	if err != nil || d.Peer != name || len(d.Holding) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if l := other.elector.leases(); len(l) != 1 || l[0] != holdBackFor {
		t.Errorf("leases of the other standby: %v", l)
	}
	if l := to.elector.leases(); len(l) != 0 {
		t.Errorf("the successor holds back: %v", l)
	}
	w.handOver(next)
	if a, b := other.elector.takeovers(), to.elector.takeovers(); len(a) != 0 || len(b) != 1 {
		t.Errorf("told to take over: the other one %v, the successor %v", a, b)
	}
	old.engine.Settle(t.Context(), simGroup)
	time.Sleep(10 * time.Millisecond)
	if l := other.elector.leases(); len(l) != 1 || l[0] != 0 {
		t.Errorf("the lease was not ended: %v", l)
	}
	// Both ends tell how it went.
	a, b := old.status().LastFailover, to.status().LastFailover
	if a == nil || !a.Planned || a.From != ThisNode || a.To != name || a.GapSeconds < 0.018 || a.GapSeconds > 0.1 {
		t.Errorf("as the old master saw it: %+v", a)
	}
	if b == nil || !b.Planned || b.From != name0 || b.To != ThisNode || a != nil && b.GapSeconds != a.GapSeconds {
		t.Errorf("as the new master saw it: %+v", b)
	}
}

// Both ends of a hand-over show the gap that the new master's election has
// measured, and that election learns when the old master was fenced.
func TestBothEndsShowOneGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.stop()
		old, to := w.nodes[0], w.nodes[1]
		if _, err := old.engine.Direct(t.Context(), simGroup, name1); err != nil {
			t.Fatal(err)
		}
		old.elector.events <- ElectorEvent{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleBackup, Term: 1,
			Reason: "operator"}
		time.Sleep(20 * time.Millisecond)
		if n := to.elector.takeovers(); len(n) != 1 || to.elector.silent <= 0 ||
			to.elector.silent > 20*time.Millisecond {
			t.Errorf("takeovers %v, the master silent for %v", n, to.elector.silent)
		}
		const gap = 43 * time.Millisecond
		to.elector.events <- ElectorEvent{Kind: ElectorState, Group: simGroup, Role: wire.RoleMaster, Term: 2,
			VIPs: simVIPs, Reason: "takeover",
			Gap: gap, Measured: true, Steps: []FailoverStep{{StepAddresses, 0.042}}}
		time.Sleep(10 * time.Millisecond)
		old.role(wire.RoleBackup, 1)
		time.Sleep(time.Second)
		a, b := old.status().LastFailover, to.status().LastFailover
		if a == nil || b == nil || a.GapSeconds != gap.Seconds() || b.GapSeconds != gap.Seconds() {
			t.Errorf("old master %+v, new master %+v, want %v", a, b, gap)
		}
		wantSteps(t, "the old master", a, StepCountersSent, StepMaster)
		wantSteps(t, "the new master", b, StepHandedOver, StepAddresses, StepMaster, StepPublished)
	})
}

// wantSteps fails unless f has these steps, in the order of time, and MASTER ends the gap.
func wantSteps(t *testing.T, what string, f *Failover, want ...string) {
	t.Helper()
	var got []string
	at := 0.0
	for _, s := range f.Steps {
		got = append(got, s.Step)
		if s.After < at || s.Step == StepMaster && s.After != f.GapSeconds {
			t.Errorf("%s: step %s after %v s, the one before after %v s", what, s.Step, s.After, at)
		}
		at = s.After
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: steps %v, want %v", what, got, want)
	}
}

// TestSlowestStep: the longest wait, whatever the remote ends do.
func TestSlowestStep(t *testing.T) {
	f := Failover{Steps: []FailoverStep{{StepDecided, 0.75}, {StepAddresses, 0.8}, {StepMaster, 0.81}, {StepTraffic, 9}}}
	if s, d := f.Slowest(); s != StepDecided || d != 0.75 {
		t.Errorf("%s, %v s", s, d)
	}
	if s, d := (Failover{}).Slowest(); s != "" || d != 0 {
		t.Errorf("without steps: %q, %v s", s, d)
	}
}

// TestFailoversAreKept: the latest come first, a restart included, and no more than are
// kept.
func TestFailoversAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.stop()
		n := w.nodes[0]
		for i := range 2 * failoversKept {
			n.role(wire.RoleBackup, uint64(2*i+1))
			n.role(wire.RoleMaster, uint64(2*i+2))
			time.Sleep(time.Second)
		}
		list, err := n.engine.Failovers(t.Context())
		if err != nil || len(list) != 1 || list[0].Group != simGroup || len(list[0].Past) != failoversKept {
			t.Fatalf("%d groups, error %v", len(list), err)
		}
		for i, f := range list[0].Past[1:] {
			if f.At.After(list[0].Past[i].At) {
				t.Errorf("failover %d is later than the one before it", i+1)
			}
		}
	})
}

func TestHandOverRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.stop()
		e := w.nodes[0].engine
		refused := func(what, word, peer string) {
			t.Helper()
			_, err := e.Direct(t.Context(), simGroup, peer)
			var r *Refusal
			if !errors.As(err, &r) || !strings.Contains(r.Reason, word) || r.Remedy == "" {
				t.Errorf("%s: %v", what, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		refused("a stranger", "not connected", "10.9.9.9")

		w.nodes[2].elector.refuse(errors.New("carpd is demoted by 5"))
		refused("a successor whose carpd would not", "demoted by 5", name2)
		w.nodes[2].elector.refuse(nil)
		if l := w.nodes[1].elector.leases(); len(l) != 2 || l[1] != 0 {
			t.Errorf("leases of the other one after a refusal: %v", l)
		}
		w.nodes[1].elector.refuse(errors.New("group is already master or about to be"))
		refused("another one that cannot hold back", "already master", name2)
		w.nodes[1].elector.refuse(nil)

		w.nodes[2].role(wire.RoleInit, 1)
		time.Sleep(10 * time.Millisecond)
		refused("a node without a role", "INIT", name2)
		w.nodes[2].role(wire.RoleBackup, 1)
		time.Sleep(time.Second)

		if _, err := w.nodes[1].engine.Direct(t.Context(), simGroup, name2); err == nil ||
			!strings.Contains(err.Error(), "run this on "+name0) {
			t.Errorf("on a backup: %v", err)
		}
		if err := e.ReadyStandby(t.Context(), simGroup, ""); err != nil {
			t.Errorf("a standby is ready: %v", err)
		}
		w.cut(0, 1)
		w.cut(0, 2)
		var r *Refusal
		if err := e.ReadyStandby(t.Context(), simGroup, ""); !errors.As(err, &r) {
			t.Errorf("nobody there: %v", err)
		}
	})
}

// A failover that nobody planned is measured by the master's last word.
func TestUnplannedFailoverIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		defer w.stop()
		w.cut(0, 1)
		w.cut(0, 2)
		time.Sleep(3 * time.Second)
		w.nodes[1].role(wire.RoleMaster, 2)
		f := w.nodes[1].status().LastFailover
		if f == nil || f.Planned || f.From != name0 || f.To != ThisNode || f.GapSeconds < 3 || f.GapSeconds > 4.5 {
			t.Errorf("%+v", f)
		}
	})
}

// Whoever asks an engine that has ended gets an answer, also with a context that
// never ends: a hand-over outlives the client that ordered it.
func TestAnEngineThatEndedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := three(t)
		w.stop()
		if _, err := w.nodes[0].engine.Status(context.Background()); !errors.Is(err, errEnded) {
			t.Errorf("status: %v", err)
		}
		if _, err := w.nodes[0].engine.Direct(context.Background(), simGroup, name1); err == nil {
			t.Error("an engine that ended directs a hand-over")
		}
	})
}

// TestElectorDies: what a dead elector has left open is closed: on a MASTER, and
// where it was about to make one and may have done so. A BACKUP has its fence.
func TestElectorDies(t *testing.T) {
	for name, tc := range map[string]struct {
		before []ElectorEvent
		want   int
	}{
		"backup":    {nil, 0},
		"preparing": {[]ElectorEvent{{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2}}, 1},
		"cancelled": {[]ElectorEvent{{Kind: ElectorPrepare, Group: simGroup, To: wire.RoleMaster, Term: 2},
			{Kind: ElectorCancel, Group: simGroup}}, 0},
		"master": {[]ElectorEvent{{Kind: ElectorState, Group: simGroup, Role: wire.RoleMaster, Term: 2,
			VIPs: simVIPs}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				defer w.stop()
				var fenced [][]netip.Addr
				n := w.nodes[0]
				n.fence = func(_ context.Context, vips []netip.Addr) error { fenced = append(fenced, vips); return nil }
				n.boot(1)
				n.role(wire.RoleBackup, 1)
				for _, ev := range append(tc.before, ElectorEvent{Kind: ElectorLost, Group: simGroup,
					Reason: "killed"}) {
					n.elector.events <- ev
					synctest.Wait()
				}
				if len(fenced) != tc.want || tc.want > 0 && !slices.Equal(fenced[0], simVIPs) {
					t.Errorf("fenced %v, want %d times %v", fenced, tc.want, simVIPs)
				}
			})
		})
	}
}
