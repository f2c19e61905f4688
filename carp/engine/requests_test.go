package engine

import (
	"slices"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/api"
)

// replies runs requests of one peer and returns what it would get.
func replies(e *Engine, p api.Peer, rs ...api.Request) []api.Message {
	var out []api.Message
	for _, r := range rs {
		if err := e.serve(time.Second, p, r); err != nil {
			out = append(out, api.Message{ID: r.ID, Error: err.Error()})
		}
		for _, o := range e.queues.out.take() {
			if o.to == p.ID {
				out = append(out, o.message)
			}
		}
	}
	return out
}

func TestRequests(t *testing.T) {
	e, _ := testEngine(t, func(c *Config) { c.Groups[0].Require = []string{"sasyncd"} })
	root := api.Peer{ID: 1, Trusted: true}
	for _, tc := range []struct {
		r    api.Request
		want string
	}{
		{api.Request{Verb: "dance"}, `unknown verb "dance"`},
		{api.Request{Verb: api.VerbResign, Group: "x"}, "no such group: x"},
		{api.Request{Verb: api.VerbResign, Group: "g"}, carp.ErrNotMaster.Error()},
		{api.Request{Verb: api.VerbReady, Group: "g"}, "ready: report is missing"},
		{api.Request{Verb: api.VerbReady, Group: "g", Ready: &api.Ready{}}, "ready: hello and subscribe come first"},
		{api.Request{Verb: api.VerbPrepared, Group: "g"}, "prepared: hello and subscribe come first"},
		{api.Request{Verb: api.VerbTakeover, Group: "g", Term: 9}, carp.ErrNotEligible.Error()},
		{api.Request{Verb: api.VerbDemote, Group: "g"}, "demote: demotion is missing"},
		{api.Request{Verb: api.VerbDemote, Group: "g", Demotion: &api.Demotion{By: 300}}, carp.ErrDemotion.Error()},
		{api.Request{Verb: api.VerbUndemote, Group: "g", Demotion: &api.Demotion{ID: "x"}}, api.UnknownDemotion},
		{api.Request{Verb: api.VerbSubscribe, Instances: []string{"two"}}, "no such instance: two"},
		{api.Request{Verb: api.VerbSubscribe, Groups: []string{"h"}}, "no such group: h"},
		{api.Request{Verb: api.VerbTerm, Group: "g", Term: 20}, ""},
	} {
		got := replies(e, root, tc.r)
		if len(got) != 1 || got[0].Error != tc.want {
			t.Errorf("%+v: %+v, want %q", tc.r, got, tc.want)
		}
	}
	// Hello, subscribe by instance: snapshot first, then the reply.
	got := replies(e, root, api.Request{ID: 1, Verb: api.VerbHello, Name: "sasyncd", Prepare: true},
		api.Request{ID: 2, Verb: api.VerbSubscribe, Instances: []string{"one"}})
	if len(got) != 3 || got[1].Event != api.EventState || !got[1].Snapshot || got[1].State.Seen != 20 ||
		got[2].ID != 2 {
		t.Errorf("subscribe: %+v", got)
	}
	// An operator names a group by one of its instances as well.
	got = replies(e, api.Peer{ID: 2}, api.Request{ID: 1, Verb: api.VerbSubscribe, Groups: []string{"one"}})
	if len(got) != 2 || got[0].Event != api.EventState || got[0].Group != "g" || got[1].Error != "" {
		t.Errorf("subscribe by the name of an instance as that of a group: %+v", got)
	}
	if why := e.groups[0].machine.Snapshot(time.Second).Blocked; why != "not in sync" {
		t.Errorf("with its client there, blocked by %q", why)
	}
}

// A client learns how fit the group is with the snapshot and at each change, and
// not by a state, since nothing has changed in that.
func TestClientsLearnFitness(t *testing.T) {
	e, _ := testEngine(t, nil)
	root := api.Peer{ID: 1, Trusted: true}
	demote := func(by int) api.Request {
		return api.Request{ID: 9, Verb: api.VerbDemote, Group: "g", Demotion: &api.Demotion{ID: "x", By: by,
			Hold: api.HoldPersistent}}
	}
	replies(e, api.Peer{ID: 2, Trusted: true}, demote(4))
	got := replies(e, root, api.Request{Verb: api.VerbHello, Name: "sasyncd"}, api.Request{Verb: api.VerbSubscribe})
	if len(got) != 3 || got[1].Fitness == nil || *got[1].Fitness != (api.Fitness{Demotion: 4, Willing: true}) {
		t.Fatalf("snapshot: %+v", got)
	}
	got = replies(e, root, demote(7), demote(7), api.Request{Verb: api.VerbUndemote,
		Group: "g", Demotion: &api.Demotion{ID: "x"}})
	var told []int
	for _, m := range got {
		switch m.Event {
		case "":
		case api.EventFitness:
			told = append(told, m.Fitness.Demotion)
		default:
			t.Errorf("event %+v", m)
		}
	}
	if !slices.Equal(told, []int{7, 0}) {
		t.Errorf("told %v", told)
	}
}

// A name counts only from those who may change things: otherwise anybody could
// play the required client.
func TestNameOfAStrangerDoesNotCount(t *testing.T) {
	e, _ := testEngine(t, func(c *Config) { c.Groups[0].Require = []string{"sasyncd"} })
	replies(e, api.Peer{ID: 1}, api.Request{Verb: api.VerbHello, Name: "sasyncd", Prepare: true},
		api.Request{Verb: api.VerbSubscribe})
	if why := e.groups[0].machine.Snapshot(time.Second).Blocked; why != "waiting for sasyncd" {
		t.Errorf("blocked by %q", why)
	}
}
