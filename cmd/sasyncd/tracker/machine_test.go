package tracker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// words writes actions down so that a test reads as the story it is.
func words(list []action) string {
	var out []string
	for _, a := range list {
		switch {
		case a.fence:
			out = append(out, "fence")
		case a.unfence:
			out = append(out, "unfence")
		default:
			kind := map[engine.ElectorEventKind]string{engine.ElectorState: "state", engine.ElectorPrepare: "prepare",
				engine.ElectorHeard: "heard", engine.ElectorCancel: "cancel"}[a.tell.Kind]
			switch a.tell.Kind {
			case engine.ElectorState:
				kind += " " + a.tell.Role.String()
			case engine.ElectorPrepare:
				kind += " " + a.tell.To.String()
			}
			if a.tell.Term != 0 && (a.tell.Term != handOver || a.tell.To != wire.RoleBackup) {
				kind += " with a term"
			}
			out = append(out, kind)
		}
	}
	return strings.Join(out, ", ")
}

func TestMachine(t *testing.T) {
	start := time.Unix(1000, 0)
	type step struct {
		after time.Duration // since the start
		name  string
		do    func(*machine, time.Time) []action
		want  string
	}
	master := func(m *machine, now time.Time) []action { return m.see(now, Observation{Master: true}) }
	lost := func(m *machine, now time.Time) []action { return m.see(now, Observation{}) }
	prepared := func(m *machine, _ time.Time) []action { return m.prepared(0) }
	handedOver := func(m *machine, _ time.Time) []action { return m.prepared(handOver) }
	resign := func(m *machine, _ time.Time) []action { return m.resign("another") }
	tick := (*machine).tick
	ready := func(r engine.Readiness) func(*machine, time.Time) []action {
		return func(m *machine, now time.Time) []action { return m.readiness(now, r) }
	}
	inSync := ready(engine.Readiness{InSync: true})
	behind := ready(engine.Readiness{Behind: true})
	follows := ready(engine.Readiness{InSync: true, Behind: true, Master: true})
	other := ready(engine.Readiness{Master: true, Behind: true})
	const s = time.Second
	for name, tc := range map[string]struct {
		noFence, empty bool
		steps          []step
	}{
		"the fence is set at the start, opens after the preparation, and closes first": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{0, "the same again", lost, ""},
			{1 * s, "in sync", follows, ""},
			{2 * s, "elected", master, "prepare MASTER"},
			{2 * s, "elected, again", master, ""},
			{2 * s, "prepared", prepared, "unfence, state MASTER"},
			{3 * s, "elected, again", master, ""},
			{3 * s, "no other master", inSync, ""},
			{4 * s, "lost", lost, "fence, prepare BACKUP"},
			{4 * s, "counters are sent", handedOver, ""},
			{5 * s, "still lost", lost, ""},
			{5 * s, "the other one is master", other, "state BACKUP, heard"},
			{5 * s, "still lost", lost, ""},
		}},
		"a master that was restarted does not close the fence": {steps: []step{
			{0, "start", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
		}},
		"a boot at which the election was faster": {empty: true, steps: []step{
			{0, "start", master, "fence, state BACKUP, heard"},
			{1 * s, "connected", other, ""},
			{2 * s, "the snapshot is complete", follows, "prepare MASTER"},
			{2 * s, "prepared", prepared, "unfence, state MASTER"},
		}},
		"nobody takes over": {steps: []step{
			{0, "start", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "lost", lost, "fence, prepare BACKUP"},
			{2 * s, "time", tick, ""},
			{12 * s, "time", tick, "state BACKUP, heard"},
		}},
		"lost for a moment": {steps: []step{
			{0, "start", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "lost", lost, "fence, prepare BACKUP"},
			{2 * s, "elected", master, "cancel, unfence"},
			{2 * s, "the late answer", handedOver, ""},
			{3 * s, "lost", lost, "fence, prepare BACKUP"},
			{4 * s, "the other one is master", other, "state BACKUP, heard"},
			{5 * s, "in sync", follows, ""},
			{6 * s, "elected, and nobody has answered", master, "prepare MASTER"},
			{6 * s, "a late answer", handedOver, ""},
			{6 * s, "prepared", prepared, "unfence, state MASTER"},
		}},
		"the other one was faster": {steps: []step{
			{0, "start", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "another master", other, ""},
			{1 * s, "lost", lost, "fence, state BACKUP, heard"},
		}},
		"an answer that comes too late opens nothing": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{0, "in sync", inSync, ""},
			{0, "elected", master, "prepare MASTER"},
			{0, "lost", lost, "fence, state BACKUP, heard"},
			{0, "elected", master, "prepare MASTER"},
			{0, "the first answer", prepared, ""},
			{0, "the second", prepared, "unfence, state MASTER"},
		}},
		"lost before the answer": {steps: []step{
			{0, "elected", master, "prepare MASTER"},
			{0, "lost", lost, "fence, state BACKUP, heard"},
			{0, "the answer", prepared, ""},
		}},
		"elected before it has the tables": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{1 * s, "connected", other, ""},
			{2 * s, "elected", master, ""},
			{3 * s, "time", tick, ""},
			{4 * s, "the snapshot is complete", follows, "prepare MASTER"},
			{4 * s, "prepared", prepared, "unfence, state MASTER"},
		}},
		"elected, and the other one that holds more does not serve it": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{1 * s, "connected", behind, ""},
			{2 * s, "elected", master, ""},
			{16 * s, "time", tick, ""},
			{17 * s, "time", tick, "prepare MASTER"},
		}},
		"elected at the start, and lost again": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{1 * s, "elected", master, ""},
			{2 * s, "lost", lost, ""},
			{9 * s, "time", tick, ""},
		}},
		"alone": {steps: []step{
			{0, "start", lost, "fence, state BACKUP, heard"},
			{1 * s, "elected", master, ""},
			{4 * s, "time", tick, ""},
			{5 * s, "time", tick, "prepare MASTER"},
		}},
		"giving way holds until the other is no master": {steps: []step{
			{0, "elected", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "give way", resign, "fence, state BACKUP"},
			{1 * s, "give way, again", resign, ""},
			{1 * s, "the other lives", follows, ""},
			{2 * s, "still elected", master, ""},
			{3 * s, "the other is gone", inSync, "prepare MASTER"},
			{3 * s, "said again", inSync, ""},
			{3 * s, "prepared", prepared, "unfence, state MASTER"},
			{4 * s, "some standby", inSync, ""},
		}},
		"giving way ends with the election's own decision": {steps: []step{
			{0, "elected", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "give way", resign, "fence, state BACKUP"},
			{2 * s, "lost", lost, "fence, state BACKUP, heard"},
			{3 * s, "the other is gone", inSync, ""},
			{4 * s, "elected", master, "prepare MASTER"},
		}},
		"handing over ends when the engine wants it": {steps: []step{
			{0, "elected", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "lost", lost, "fence, prepare BACKUP"},
			{1 * s, "give way", resign, "state BACKUP, heard"},
		}},
		"without a fence, giving way means nothing": {noFence: true, steps: []step{
			{0, "elected", master, "prepare MASTER"},
			{0, "prepared", prepared, "unfence, state MASTER"},
			{1 * s, "give way", resign, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{name: "g", vips: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, yields: !tc.noFence,
				started: start, empty: tc.empty}
			for i, s := range tc.steps {
				list := s.do(m, start.Add(s.after))
				if got := words(list); got != s.want {
					t.Errorf("step %d, %s: %q, want %q", i+1, s.name, got, s.want)
				}
				for _, a := range list {
					if a.tell.Kind != 0 && a.tell.Group != "g" {
						t.Errorf("step %d, %s: of group %q", i+1, s.name, a.tell.Group)
					}
					if a.tell.Kind == engine.ElectorState && len(a.tell.VIPs) != 1 {
						t.Errorf("step %d, %s: a state without addresses", i+1, s.name)
					}
				}
			}
		})
	}
}
