package main

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"sasyncd/carp/api"
)

// gate is the carpd of one gateway as its sasyncd sees it: it changes its role when it is
// told to, in the steps in which carpd does.
type gate struct {
	t      *testing.T
	path   string
	server *api.Server
	stop   func()

	mu    sync.Mutex
	state api.GroupState
	peer  uint64
	to    string // the role that is prepared
	term  uint64 // of that
	asked []api.Request
}

func newGate(t *testing.T, dir, role string, term uint64, vips ...netip.Addr) *gate {
	t.Helper()
	g := &gate{t: t, path: filepath.Join(dir, "carpd.sock"), state: api.GroupState{Group: "gate", State: role,
		Term: term, Seen: term, WhenSplit: api.SplitContinue, Instances: []api.InstanceState{{Name: "carp1"}}}}
	for _, v := range vips {
		g.state.VIPs = append(g.state.VIPs, api.VIP{Address: v, Interface: "out0", Instance: "carp1"})
	}
	l, err := api.Listen(g.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.server = api.NewServer(g, nil, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.server.Serve(ctx, l.UnixListener); err != nil {
			t.Error(err)
		}
		l.Release()
	}()
	g.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(g.stop)
	return g
}

// Request answers as carpd does.
func (g *gate) Request(p api.Peer, r api.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r)
	reply := api.Message{ID: r.ID}
	switch r.Verb {
	case api.VerbSubscribe:
		g.peer = p.ID
		state := g.state
		g.send(api.Message{Event: api.EventState, Snapshot: true, State: &state, Fitness: &api.Fitness{Willing: true},
			To: state.State, Term: state.Term})
	case api.VerbStatus:
		reply.Groups = []api.GroupState{g.state}
	case api.VerbResign:
		if g.state.State != api.StateMaster {
			reply.Error = "group is not master"
			break
		}
		g.prepare(api.StateBackup, g.state.Term)
	case api.VerbTakeover:
		g.prepare(api.StateMaster, r.Term+1)
	case api.VerbPrepared:
		if g.to != "" && r.Term == g.term {
			g.become(g.to, g.term)
		}
	}
	g.server.Send(p.ID, reply)
}

// Gone is a client that has left.
func (g *gate) Gone(api.Peer) {}

// prepare asks for a change of role.
func (g *gate) prepare(to string, term uint64) {
	g.to, g.term = to, term
	g.send(api.Message{Event: api.EventPrepare, To: to, Term: term, ForMS: 2000, Reason: "test"})
}

func (g *gate) become(role string, term uint64) {
	old := g.state.State
	g.state.State, g.state.Seen, g.to = role, max(g.state.Seen, term), ""
	if role == api.StateMaster {
		g.state.Term = term
	}
	state := g.state
	g.send(api.Message{Event: api.EventState, State: &state, Old: old, To: role, Term: term, Reason: "test"})
}

func (g *gate) send(m api.Message) {
	m.Group = g.state.Group
	g.server.Send(g.peer, m)
}

// said returns the requests of a kind.
func (g *gate) said(verb string) (out []api.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.asked {
		if r.Verb == verb {
			out = append(out, r)
		}
	}
	return out
}
