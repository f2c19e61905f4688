package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"sasyncd/carp"
	"sasyncd/carp/link"
	"sasyncd/carp/vip"
)

// task is work for the worker. Kind is that of an action.
type task struct {
	kind  carp.ActionKind
	op    uint64
	group *group
	vips  []vip.Address // on the interfaces that are there
	all   []netip.Addr
	lease time.Duration
	ports []int
	// loading: the policies are not all there yet, by the client's word.
	loading bool
	do      func() error  // instead of kind
	after   uint64        // the group's latest operation when this was ordered
	at      time.Duration // when that was
	// What do is for, where no second one is to wait: see mendAll, lookAtConfigured.
	mend, configured bool
}

// errOverdue is of what was ordered before the group went another way, while the
// worker did not answer.
var errOverdue = errors.New("not done: it comes too late")

// overdue reports whether the group has ordered another operation since. What
// silences a node is done all the same.
func (t *task) overdue() bool { return t.group.latest.Load() != t.after }

// order queues a kernel operation. A renewal that still waits is not doubled.
func (e *Engine) order(g *group, a carp.Action) {
	if a.Kind == carp.ActRenew && e.queues.work.any(func(t task) bool {
		return t.group == g &&
			t.kind == carp.ActRenew
	}) {
		return
	}
	if a.Op != 0 {
		g.latest.Store(a.Op)
	}
	e.queues.work.put(e.task(g, a))
}

// task describes an operation on a group as it is now, since the group can
// change while the task waits.
func (e *Engine) task(g *group, a carp.Action) task {
	t := task{
		kind: a.Kind, op: a.Op, group: g, vips: g.addresses(), all: g.vips(), lease: g.lease,
		after: g.latest.Load(), at: link.BootTime(),
	}
	if g.frozenTo != 0 {
		t.lease = max(t.lease, g.frozenTo-link.BootTime())
	}
	if g.held {
		t.loading = g.machine.Snapshot(link.BootTime()).Loading
	}
	for _, r := range g.routers {
		if r.port.Index != 0 && !slices.Contains(t.ports, r.port.Index) {
			t.ports = append(t.ports, r.port.Index)
		}
	}
	return t
}

// runWorker does what may block, one after the other.
func (e *Engine) runWorker(ctx context.Context) {
	runtime.LockOSThread() // for the priority; the thread ends with it
	_ = realtime(workerPriority)
	look := time.NewTicker(holdEach)
	defer look.Stop()
	mend := time.NewTicker(mendEach)
	defer mend.Stop()
	for {
		e.beats.worker()
		for _, t := range e.queues.work.take() {
			e.runTask(t)
			e.beats.worker()
		}
		if len(e.holding.groups) == 0 {
			look.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-e.queues.work.wake:
		case <-look.C:
			e.post(e.review)
		case <-mend.C:
			e.post(e.mendAll)
		}
	}
}

func (e *Engine) runTask(t task) {
	began := time.Now()
	var err error
	var way course
	if t.do != nil {
		if err := t.do(); err != nil {
			e.say(slog.LevelError, "kernel operation failed", "group", t.group.name, "err", err)
		}
		return
	}
	switch t.kind {
	case carp.ActFence:
		e.fenced[t.group] = true
		err = e.deps.Fence.Set(t.all...)
	case carp.ActAcquire:
		e.fenced[t.group] = false
		err = e.acquire(t, &way)
	case carp.ActRelease:
		e.fenced[t.group] = true
		// Both, whatever happens to the first.
		err = errors.Join(e.deps.Fence.Set(t.all...), e.deps.Addresses.Release(t.vips), e.deps.NextHops.Purge(t.ports))
	case carp.ActRenew:
		err = e.renew(t)
		e.post(func(now time.Duration) {
			e.step(t.group, now, carp.Event{Kind: carp.EvRenewed, Proof: t.at, Err: err})
		})
	case carp.ActAnnounce:
		if !t.overdue() {
			err = e.deps.Announcer.Announce(t.vips)
		}
	}
	if err != nil && !errors.Is(err, errOverdue) {
		e.say(slog.LevelError, "kernel operation failed", "group", t.group.name, "operation", operation(t.kind),
			"err", err)
	} else {
		e.say(slog.LevelDebug, "kernel operation", "group", t.group.name, "operation", operation(t.kind),
			"took", time.Since(began))
	}
	if t.op != 0 {
		e.post(func(now time.Duration) {
			if t.kind == carp.ActAcquire {
				t.group.course.addresses, t.group.course.fence = way.addresses, way.fence
			}
			e.step(t.group, now, carp.Event{Kind: carp.EvDone, Op: t.op, Err: err})
		})
	}
}

// renew extends the leases: that of the fence first, so that it never outlasts the
// addresses.
func (e *Engine) renew(t task) error {
	if t.overdue() {
		return errOverdue
	}
	err := e.deps.Fence.Renew(t.lease)
	if t.overdue() {
		return errOverdue
	}
	return errors.Join(err, e.deps.Addresses.Renew(t.vips, t.lease))
}

// acquire takes the addresses and opens the fence, in the order in which
// nothing can leave that should not. It notes in way when which was done.
func (e *Engine) acquire(t task, way *course) error {
	if len(t.vips) < len(t.all) {
		return errNoInterface
	}
	if t.overdue() {
		return errOverdue
	}
	if err := e.holdVirtual(t); err != nil {
		return err
	}
	late, err := e.deps.Addresses.Acquire(t.vips, t.lease)
	if err != nil {
		return err
	}
	way.addresses = link.BootTime()
	if len(late) > 0 {
		// The others serve meanwhile. To give up would cost them as long as these.
		e.say(slog.LevelWarn, "kernel does not route addresses as its own yet", "group", t.group.name,
			"addresses", late)
	}
	if !t.loading {
		// Before the fence opens: what comes in is encrypted, and dropped.
		if err := e.liftIfProtected(t.group, t.all, true, "master, IPsec policies are there"); err != nil {
			return err
		}
	}
	if t.overdue() {
		return errOverdue // what follows takes off the addresses
	}
	for _, link := range t.ports {
		var ips []netip.Addr
		for _, a := range t.vips {
			if a.Index == link {
				ips = append(ips, a.IP)
			}
		}
		if err := e.deps.Fence.Clear(link, ips...); err != nil {
			return err
		}
	}
	way.fence = link.BootTime()
	if t.overdue() {
		return errOverdue
	}
	if err := e.deps.Announcer.Announce(t.vips); err != nil {
		// The neighbours learn by the next announcement, or by asking.
		e.say(slog.LevelWarn, "announcement failed", "group", t.group.name, "err", err)
	}
	if err := e.deps.NextHops.Own(t.vips); err != nil {
		e.say(slog.LevelWarn, "packets that wait for an address of this node stay", "group", t.group.name, "err", err)
	}
	return nil
}

// vips returns all addresses of a group, whether their interface exists or not.
func (g *group) vips() []netip.Addr {
	var out []netip.Addr
	for _, r := range g.routers {
		out = append(out, r.VIPs...)
	}
	return out
}

func operation(k carp.ActionKind) string {
	switch k {
	case carp.ActFence:
		return "fence"
	case carp.ActAcquire:
		return "acquire"
	case carp.ActRelease:
		return "release"
	case carp.ActRenew:
		return "renew"
	case carp.ActAnnounce:
		return "announce"
	}
	return "unknown"
}
