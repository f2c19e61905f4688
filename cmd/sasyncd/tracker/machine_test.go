package tracker

import (
	"net/netip"
	"strings"
	"testing"

	"sasyncd/sync/engine"
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
			if a.tell.Kind == engine.ElectorState {
				kind += " " + a.tell.Role.String()
			}
			if a.tell.Term != 0 {
				kind += " with a term"
			}
			out = append(out, kind)
		}
	}
	return strings.Join(out, ", ")
}

func TestMachine(t *testing.T) {
	master := func(m *machine) []action { return m.see(Sight{Master: true}) }
	lost := func(m *machine) []action { return m.see(Sight{}) }
	prepared := (*machine).prepared
	resign := func(m *machine) []action { return m.resign("another") }
	other := func(is bool) func(*machine) []action { return func(m *machine) []action { return m.members(is) } }
	type step struct {
		name string
		do   func(*machine) []action
		want string
	}
	for name, tc := range map[string]struct {
		noFence bool
		steps   []step
	}{
		"the fence is set at the start, opens after the preparation, and closes first": {steps: []step{
			{"start", lost, "fence, state BACKUP, heard"},
			{"the same again", lost, ""},
			{"elected", master, "prepare"},
			{"elected, again", master, ""},
			{"prepared", prepared, "unfence, state MASTER"},
			{"elected, again", master, ""},
			{"lost", lost, "fence, state BACKUP, heard"},
		}},
		"a master that was restarted does not close the fence": {steps: []step{
			{"start", master, "prepare"},
			{"prepared", prepared, "unfence, state MASTER"},
		}},
		"an answer that comes too late opens nothing": {steps: []step{
			{"start", lost, "fence, state BACKUP, heard"},
			{"elected", master, "prepare"},
			{"lost", lost, "fence, state BACKUP, heard"},
			{"elected", master, "prepare"},
			{"the first answer", prepared, ""},
			{"the second", prepared, "unfence, state MASTER"},
		}},
		"lost before the answer": {steps: []step{
			{"elected", master, "prepare"},
			{"lost", lost, "fence, state BACKUP, heard"},
			{"the answer", prepared, ""},
		}},
		"giving way holds until the other is no master": {steps: []step{
			{"elected", master, "prepare"},
			{"prepared", prepared, "unfence, state MASTER"},
			{"give way", resign, "fence, state BACKUP"},
			{"give way, again", resign, ""},
			{"the other lives", other(true), ""},
			{"still elected", master, ""},
			{"the other is gone", other(false), "prepare"},
			{"said again", other(false), ""},
			{"prepared", prepared, "unfence, state MASTER"},
			{"some standby", other(false), ""},
		}},
		"giving way ends with the election's own decision": {steps: []step{
			{"elected", master, "prepare"},
			{"prepared", prepared, "unfence, state MASTER"},
			{"give way", resign, "fence, state BACKUP"},
			{"lost", lost, "fence, state BACKUP, heard"},
			{"the other is gone", other(false), ""},
			{"elected", master, "prepare"},
		}},
		"without a fence, giving way means nothing": {noFence: true, steps: []step{
			{"elected", master, "prepare"},
			{"prepared", prepared, "unfence, state MASTER"},
			{"give way", resign, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{name: "g", vips: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, yields: !tc.noFence}
			for i, s := range tc.steps {
				list := s.do(m)
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
