package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/link"
	"sasyncd/carp/vip"
)

// leased notes for how long leases are given.
type leased struct {
	fakeFence
	fence, addresses time.Duration
	fail             error
}

func (l *leased) Renew(d time.Duration) error { l.fence = d; return l.fail }

type leasedAddresses struct {
	fakeAddresses
	l *leased
}

func (l leasedAddresses) Renew(_ []vip.Address, d time.Duration) error { l.l.addresses = d; return nil }

// TestFreezeIsAsLongAsItsLeases: all leases of a MASTER last as long as the restart may
// take, within bounds, and without a restart everything is as it was.
func TestFreezeIsAsLongAsItsLeases(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{0: minFreeze, 30 * time.Second: 30 * time.Second,
		time.Hour: maxFreeze} {
		e, f := testEngine(t, nil)
		takesCalls(t, e)
		now, ended := link.BootTime(), 0
		acts, ok := e.groups[0].machine.Adopt(now, 8)
		if !ok {
			t.Fatal("not adopted")
		}
		e.carryOut(e.groups[0], now, acts)
		drain(e)
		l, kept := &leased{fakeFence: fakeFence{f}}, &fakeFreezer{}
		e.deps.Fence, e.deps.Addresses, e.deps.Freezer = l, leasedAddresses{fakeAddresses{f}, l}, kept
		g := e.groups[0]
		before := g.lease
		turn := func(at time.Duration) {
			for _, w := range e.queues.work.take() {
				e.runTask(w)
			}
			e.runCalls(at)
		}
		e.freeze(g, now, asked, func(err error) {
			if ended++; err != nil {
				t.Error(err)
			}
		})
		turn(now)
		least, most := want-time.Second, want
		if least < before { // the lease that it has anyway
			least, most = before, max(before, want)
		}
		if ended != 1 || l.fence < least || l.fence > most || l.addresses != l.fence || kept.until != now+want ||
			kept.term != 8 {
			t.Errorf("%v: ended %d times, leases of %v and %v, written down %+v", asked, ended, l.fence, l.addresses, *kept)
		}
		if !e.frozen(g, now) || want > 3*time.Second && e.routers[0].interval(now) <= e.routers[0].Machine.Interval {
			t.Errorf("%v: frozen %v, peers are told %v", asked, e.frozen(g, now), e.routers[0].interval(now))
		}
		e.thawExpired(now + want - 1)
		if turn(now); kept.until == 0 {
			t.Errorf("%v: over too early", asked)
		}
		e.thawExpired(now + want)
		if turn(now); kept.until != 0 || e.frozen(g, now) ||
			e.routers[0].interval(now) != e.routers[0].Machine.Interval {
			t.Errorf("%v: no restart came, and it goes on: %+v", asked, *kept)
		}
		if next := e.task(g, carp.Action{Kind: carp.ActRenew}); next.lease != before {
			t.Errorf("%v: leases of %v again, want %v", asked, next.lease, before)
		}
	}
}

// TestFreezeThatFails is told, and nothing is written down.
func TestFreezeThatFails(t *testing.T) {
	e, f := adoptedMaster(t, nil)
	takesCalls(t, e)
	l, kept := &leased{fakeFence: fakeFence{f}, fail: errors.New("no netlink")}, &fakeFreezer{}
	e.deps.Fence, e.deps.Freezer = l, kept
	var got error
	now := link.BootTime()
	e.freeze(e.groups[0], now, time.Minute, func(err error) { got = err })
	for _, w := range e.queues.work.take() {
		e.runTask(w)
	}
	if e.runCalls(now); !errors.Is(got, l.fail) || kept.until != 0 {
		t.Errorf("%v, written down %+v", got, *kept)
	}
}

// TestLiftIsTriedAgain: forwarding that could not be let go on is, at the next look.
func TestLiftIsTriedAgain(t *testing.T) {
	e, h := heldEngine(t, guarded)
	takesCalls(t, e)
	g := e.groups[0]
	h.fail = errors.New("no netlink")
	for range 2 {
		if err := e.lift(g, true, "test"); err == nil {
			t.Error("a hold that stays is no error")
		}
		if e.runCalls(0); !g.held {
			t.Error("it is shown as lifted")
		}
	}
	h.fail = nil
	if err := e.lift(g, true, "test"); err != nil || len(h.devices) > 0 {
		t.Errorf("held are %q, %v", h.devices, err)
	}
	if e.runCalls(0); g.held {
		t.Error("it is not shown as lifted")
	}
}

// TestMendingLeavesOrdersAlone: what a group has ordered meanwhile comes first.
func TestMendingLeavesOrdersAlone(t *testing.T) {
	e, f := adoptedMaster(t, nil)
	e.mendAll(100 * time.Millisecond)
	looks := e.queues.work.take()
	e.order(e.groups[0], carp.Action{Kind: carp.ActRelease, Op: e.groups[0].latest.Load() + 1})
	f.log = nil
	for _, w := range looks {
		e.runTask(w)
	}
	if got := strings.Join(f.log, ", "); got != "mend fence of 0" {
		t.Errorf("%s", got)
	}
}

// TestAllAddressesOrNone: a group one of whose interfaces is gone takes none of its
// addresses, and opens no fence.
func TestAllAddressesOrNone(t *testing.T) {
	e, f := testEngine(t, guarded)
	g := e.groups[0]
	f.log = nil
	if err := e.acquire(e.task(g, carp.Action{Kind: carp.ActAcquire}), new(course)); err != nil ||
		!slices.Contains(f.log, "acquire") || !slices.Contains(f.log, "unfence") {
		t.Errorf("%v: %q", err, f.log)
	}
	for _, p := range e.ports {
		f.log = nil
		was := p.Index
		p.Index = 0
		if err := e.acquire(e.task(g, carp.Action{Kind: carp.ActAcquire}), new(course)); err == nil || len(f.log) > 0 {
			t.Errorf("%v: %q", err, f.log)
		}
		p.Index = was
	}
}
