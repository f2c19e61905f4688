package simulation

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/cmd/sasyncd/tracker"
	"sasyncd/kernel/link"
	"sasyncd/sync/engine"
	"sasyncd/sync/wire"
)

// foreign is an election that asks nobody and counts no terms, as that of keepalived:
// sasyncd sees what comes of it, and has a fence of its own.
type foreign struct {
	n *node

	mu      sync.Mutex
	has     bool // the virtual addresses
	sight   tracker.Observation
	changed chan struct{}
	// prepared is whether this sasyncd has answered the last question for MASTER.
	prepared bool
}

func newForeign(n *node) *foreign { return &foreign{n: n, changed: make(chan struct{}, 1)} }

// hold gives the node the virtual addresses, or takes them.
func (f *foreign) hold(has bool) {
	f.mu.Lock()
	f.has = has
	f.mu.Unlock()
}

func (f *foreign) holds() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.has
}

func (f *foreign) see(s tracker.Observation) {
	f.mu.Lock()
	f.sight = s
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Follow implements tracker.Source.
func (f *foreign) Follow(ctx context.Context, see func(string, tracker.Observation)) error {
	for {
		f.mu.Lock()
		s := f.sight
		f.mu.Unlock()
		see(groupName, s)
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		}
	}
}

// Set, Clear and RenewFor implement tracker.Fence.
func (f *foreign) Set(vips ...netip.Addr) error { return f.n.fence(context.Background(), vips) }
func (f *foreign) RenewFor(time.Duration) error { return nil }
func (f *foreign) Clear(int, ...netip.Addr) error {
	f.mu.Lock()
	prepared := f.prepared
	f.mu.Unlock()
	if !prepared {
		f.n.s.t.Errorf("%s: node %d opens its fence, and sasyncd is not prepared", time.Since(f.n.s.start), f.n.i)
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.n.fenced = false
	return nil
}

// Addrs, Links and Watch implement tracker.Interfaces.
func (f *foreign) Addrs(context.Context) ([]link.Address, error) { return nil, nil }
func (f *foreign) Links(context.Context) ([]link.Link, error) {
	return []link.Link{{Index: 2, Name: "eth0", Up: true}}, nil
}
func (f *foreign) Watch(context.Context) (<-chan struct{}, error) { return nil, nil }

// elector is the tracker of one sasyncd, whose events the node notes.
type elector struct {
	*tracker.Elector
	n *node
}

func (e elector) Events() <-chan engine.ElectorEvent { return e.n.Events() }

func (e elector) Prepared(group string, term uint64) {
	e.n.foreign.prepare(true)
	e.Elector.Prepared(group, term)
}

func (e elector) Ready(group string, r engine.Readiness) {
	e.n.mu.Lock()
	e.n.inSync = r.InSync
	e.n.mu.Unlock()
	e.Elector.Ready(group, r)
}

func (f *foreign) prepare(done bool) {
	f.mu.Lock()
	f.prepared = done
	f.mu.Unlock()
}

// start starts the tracker of a sasyncd, until ctx ends.
func (f *foreign) start(ctx context.Context) engine.Elector {
	f.prepare(false)
	t := tracker.New(tracker.Config{Groups: []tracker.Group{{Name: groupName, VIPs: vips}}, Source: f, Interfaces: f,
		Fence: f, Log: f.n.log, Holds: func(ctx context.Context, _ []netip.Addr) (bool, error) {
			snap, err := f.n.kernel.Dump(ctx)
			return err == nil && len(snap.SAs) > 0, err
		}})
	go func() {
		if err := t.Run(ctx); err != nil {
			f.n.s.t.Errorf("tracker of node %d: %v", f.n.i, err)
		}
	}()
	go func() {
		for {
			select {
			case ev := <-t.Events():
				if ev.Kind == engine.ElectorPrepare && ev.To == wire.RoleMaster {
					f.prepare(false)
				}
				f.n.deliver(ev)
			case <-ctx.Done():
				return
			}
		}
	}()
	return elector{t, f.n}
}

// acts does what an election of its own does without asking.
func (f *foreign) acts(a carp.Action, ops chan<- carp.Action) {
	switch a.Kind {
	case carp.ActFence, carp.ActAcquire, carp.ActRelease:
		ops <- a
	case carp.ActState:
		f.n.log.Info("election", "state", a.To.String(), "reason", a.Reason)
		f.see(tracker.Observation{Master: a.To == carp.Master, Reason: a.Reason})
	}
}

// boots is the node after a power cut: it has no SAs, no policies and no fence.
func (f *foreign) boots() {
	f.n.ike.FlushSA(0)
	f.n.ike.FlushPolicy(false)
	f.see(tracker.Observation{})
	f.n.mu.Lock()
	clear(f.n.sent)
	f.n.mu.Unlock()
}

// TestWithoutTerms plays histories with an election that is not ours. It gives a node
// that has just booted, empty, its mastership back at once. Nothing may be lost,
// repeated or refused.
func TestWithoutTerms(t *testing.T) {
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			runWith(t, seed, 2+int(seed%2), func(n *node) { n.foreign = newForeign(n) }, (*sim).withoutTerms)
		})
	}
}

func (s *sim) withoutTerms() {
	s.pass(12 * time.Second)
	for range 2 + s.rng.IntN(4) {
		s.add()
	}
	s.pass(3 * time.Second)
	for range 10 {
		if s.t.Failed() {
			return
		}
		s.rekey()
		s.pass(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		switch s.rng.IntN(5) {
		case 0:
			s.note("sasyncd of node %d restarts", n.i)
			away := s.busy
			if n == s.master() { // what it negotiates now nobody hears
				away = s.pass
			}
			n.killSasyncd()
			away(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
			n.startSasyncd()
		case 1, 2:
			s.note("node %d loses its power", n.i)
			n.powerCut()
			s.pass(4 * time.Second)
			s.busy(time.Duration(s.rng.IntN(5000)) * time.Millisecond)
			n.foreign.boots()
			n.startCarpd()
			if s.rng.IntN(2) == 0 { // the election is the faster one
				s.pass(time.Duration(1000+s.rng.IntN(2000)) * time.Millisecond)
			}
			n.startSasyncd()
		case 3:
			j := (n.i + 1) % len(s.nodes)
			s.note("sync link %d-%d is cut", n.i, j)
			s.syncCut[pairOf(n.i, j)] = true
			s.cut(n.i, j)
			s.busy(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
			s.syncCut[pairOf(n.i, j)] = false
		case 4:
			if m := s.master(); m != nil {
				s.note("the election takes mastership from node %d", m.i)
				m.tell(carp.Event{Kind: carp.EvResign, Reason: "priority", Hold: time.Second})
			}
		}
		s.pass(15 * time.Second)
		if s.master() == nil && !s.t.Failed() {
			s.t.Errorf("%s: seed %d: nobody sends", time.Since(s.start), s.seed)
		}
	}
	s.quiet()
	if !s.t.Failed() && s.sent == 0 {
		s.t.Error("no traffic at all")
	}
}
