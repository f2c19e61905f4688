package main

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"sasyncd/carp/api"
	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// stubCarpd answers as carpd does, for one group that is master.
type stubCarpd struct {
	t      *testing.T
	path   string
	server *api.Server
	stop   func()

	mu    sync.Mutex
	state api.GroupState
	fit   *api.Fitness // with the snapshot
	peer  uint64
	asked []api.Request
	mute  map[string]bool // verbs that are not answered
}

func newStubCarpd(t *testing.T) *stubCarpd {
	c := &stubCarpd{t: t, path: filepath.Join(trustedtest.Dir(t), "carpd.sock"), state: api.GroupState{
		Group: "gate", State: api.StateMaster, Term: 7, Seen: 7, WhenSplit: api.SplitPreferTraffic,
		Instances: []api.InstanceState{{Name: "carp1"}}, VIPs: []api.VIP{{Address: netip.MustParseAddr("192.0.2.1")}},
	}}
	t.Cleanup(func() { c.end() })
	return c
}

// begin starts to listen, as a process that has just started.
func (c *stubCarpd) begin() {
	c.t.Helper()
	l, err := api.Listen(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.server = api.NewServer(c, nil, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.server.Serve(ctx, l.UnixListener); err != nil {
			c.t.Error(err)
		}
		l.Release()
	}()
	c.stop = func() { cancel(); <-done }
}

func (c *stubCarpd) end() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

func (c *stubCarpd) Request(p api.Peer, r api.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, r)
	state, fit, mute := c.state, c.fit, c.mute[r.Verb]
	if r.Verb == api.VerbSubscribe {
		c.peer = p.ID
	}
	c.mu.Unlock()
	if r.Verb == api.VerbSubscribe {
		c.server.Send(p.ID, api.Message{Event: api.EventState, Group: "gate", Snapshot: true, State: &state,
			Fitness: fit, To: state.State, Term: state.Term})
	}
	reply := api.Message{ID: r.ID}
	if r.Verb == api.VerbStatus {
		reply.Groups = []api.GroupState{state}
	}
	if !mute {
		c.server.Send(p.ID, reply)
	}
}

func (c *stubCarpd) Gone(api.Peer) {}

func (c *stubCarpd) event(m api.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server.Send(c.peer, m)
}

// reported counts the reports of readiness that match.
func (c *stubCarpd) reported(want api.Ready) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range c.asked {
		if r.Verb == api.VerbReady && *r.Ready == want {
			n++
		}
	}
	return n
}

func next(t *testing.T, e *carpdElector) engine.ElectorEvent {
	t.Helper()
	select {
	case ev := <-e.Events():
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event of the election")
	}
	return engine.ElectorEvent{}
}

func isFit(t *testing.T, e *carpdElector, demotion int, willing bool) {
	t.Helper()
	want := engine.ElectorEvent{Kind: engine.ElectorFitness, Group: "carp1", Demotion: demotion, Willing: willing}
	if ev := next(t, e); !reflect.DeepEqual(ev, want) {
		t.Fatalf("event %+v, want %+v", ev, want)
	}
}

// isMaster expects the state that a connection begins with.
func isMaster(t *testing.T, e *carpdElector) {
	t.Helper()
	isFit(t, e, 0, true) // of a carpd that does not tell
	if ev := next(t, e); ev.Kind != engine.ElectorState || ev.Role != wire.RoleMaster || ev.Term != 7 ||
		ev.Group != "carp1" || !ev.PreferTraffic {
		t.Fatalf("event %+v, want master in term 7", ev)
	}
}

// A carpd that has said that it is about to be restarted may be away for that
// long; what ends without a word, or does not come back, is lost.
func TestElectorFollowsRestart(t *testing.T) {
	c := newStubCarpd(t)
	c.begin()
	e := newCarpdElector(c.path, []string{"carp1"}, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	isMaster(t, e)
	fit := engine.Readiness{InSync: true, PeerReady: true, Traffic: true, Loading: true, Term: 7,
		PeerTold: true, PeerDemotion: 3, WillingDemotion: 4}
	wire := api.Ready{InSync: true, PeerReady: true, Traffic: true, Loading: true,
		PeerTold: true, PeerDemotion: 3, WillingDemotion: 4}
	e.Ready("carp1", fit)

	// Back in time: the next that is heard is the state, as it was, and carpd
	// learns again what it knew.
	c.event(api.Message{Event: api.EventFreeze, Group: "gate", ForMS: 60_000})
	waitFor(t, "the report", func() bool { return c.reported(wire) == 1 })
	c.end()
	c.begin()
	isMaster(t, e)
	waitFor(t, "the report to the new carpd", func() bool { return c.reported(wire) == 2 })

	// Freezing is for one restart.
	c.end()
	if ev := next(t, e); ev.Kind != engine.ElectorLost {
		t.Fatalf("event %+v, want that the elector is lost", ev)
	}
	c.begin()
	isMaster(t, e)

	// Not back in time.
	const limit = 700 * time.Millisecond
	frozen := time.Now()
	c.event(api.Message{Event: api.EventFreeze, Group: "gate", ForMS: limit.Milliseconds()})
	c.end()
	if ev := next(t, e); ev.Kind != engine.ElectorLost {
		t.Fatalf("event %+v, want that the elector is lost", ev)
	}
	if took := time.Since(frozen); took < limit {
		t.Errorf("lost after %v, although it may be away for %v", took, limit)
	}
}

// TestElectorTellsFitness: before the state of a snapshot, so that nothing older
// is told to others meanwhile, and at each change. What is of no group followed,
// or unknown, is nobody's matter.
func TestElectorTellsFitness(t *testing.T) {
	c := newStubCarpd(t)
	c.fit = &api.Fitness{Demotion: 5}
	c.begin()
	e := newCarpdElector(c.path, []string{"carp1"}, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	isFit(t, e, 5, false)
	if ev := next(t, e); ev.Kind != engine.ElectorState {
		t.Fatalf("event %+v, want the state", ev)
	}
	c.event(api.Message{Event: "of the future", Group: "gate"})
	c.event(api.Message{Event: api.EventFitness, Group: "gate"})
	c.event(api.Message{Event: api.EventFitness, Group: "other", Fitness: &api.Fitness{Demotion: 9}})
	// A change of state that is none of a snapshot says nothing of it.
	c.event(api.Message{Event: api.EventState, Group: "gate", State: &c.state, To: c.state.State})
	if ev := next(t, e); ev.Kind != engine.ElectorState {
		t.Fatalf("event %+v, want the state", ev)
	}
	c.event(api.Message{Event: api.EventFitness, Group: "gate", Fitness: &api.Fitness{Demotion: 6, Willing: true}})
	isFit(t, e, 6, true)
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
