package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/carp"
	"sasyncd/carp/link"
	"sasyncd/carp/packet"
	"sasyncd/carp/vip"
	"sasyncd/kernel/dump"
)

// fakeLinks are the interfaces of a test.
type fakeLinks struct {
	state    link.State
	addrs    []vip.Assigned
	linkErr  error
	addrsErr error
	looks    int
}

func (f *fakeLinks) Link(string) (link.State, error) { f.looks++; return f.state, f.linkErr }

func (f *fakeLinks) Addresses(int) ([]vip.Assigned, error) { return f.addrs, f.addrsErr }

// watched is a test engine whose interface is up, and who watches it.
func watched(t *testing.T, edit func(*Config)) (*Engine, *fakes, *fakeLinks, *watcher) {
	t.Helper()
	e, f := testEngine(t, edit)
	poll, err := link.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	e.setPoller(poll)
	t.Cleanup(poll.Close)
	p := e.ports[0]
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	p.Use(int(null.Fd())) // nothing is sent or received
	links := &fakeLinks{
		state: link.State{Index: p.Index, MAC: p.mac, Up: true},
		addrs: []vip.Assigned{{IP: netip.MustParseAddr("fe80::2")}, {IP: ownAddr}},
	}
	e.interfaces = links
	w := &watcher{e: e, seen: map[*port]*lastLook{p: {}}}
	w.lookNow()
	return e, f, links, w
}

// lookNow looks, and has the engine take over what was seen.
func (w *watcher) lookNow() {
	for p, l := range w.seen {
		l.at = time.Time{}
		w.want(p, time.Now())
	}
	w.look(time.Now())
	w.e.runCalls(link.BootTime())
}

// A reading that the kernel has torn, or that fails, is no change of state, and is
// made again soon.
func TestTornReading(t *testing.T) {
	for name, tear := range map[string]func(*fakeLinks){
		"addresses torn": func(f *fakeLinks) {
			f.addrs, f.addrsErr = nil, fmt.Errorf("read addresses: %w", dump.ErrInterrupted)
		},
		"addresses torn by the library's word": func(f *fakeLinks) {
			f.addrs, f.addrsErr = nil, fmt.Errorf("read addresses: %w", netlink.ErrDumpInterrupted)
		},
		"addresses cannot be read": func(f *fakeLinks) { f.addrs, f.addrsErr = nil, unix.ENOBUFS },
		"interface torn": func(f *fakeLinks) {
			f.state, f.linkErr = link.State{},
				netlink.ErrDumpInterrupted
		},
		"interface cannot be read": func(f *fakeLinks) { f.state, f.linkErr = link.State{}, unix.EMFILE },
	} {
		t.Run(name, func(t *testing.T) {
			e, _, links, w := watched(t, nil)
			r := e.routers[0]
			good := *links
			tear(links)
			w.lookNow()
			if s := r.group.machine.Snapshot(link.BootTime()); s.State != carp.Backup || !r.up || r.src != ownAddr ||
				r.port.mac == (packet.MAC{}) {
				t.Errorf("state %v, up %v, source %v", s.State, r.up, r.src)
			}
			if wait := w.look(time.Now()); wait > lookAgain {
				t.Errorf("looks again in %v", wait)
			}
			// A cable that is pulled meanwhile is noticed, if the interface can be read.
			if links.linkErr == nil {
				links.state.Up = false
				w.lookNow()
				if r.up {
					t.Error("carrier lost, and the instance is up")
				}
			}
			*links = good
			w.lookNow()
			if !r.up {
				t.Error("not up after a good reading")
			}
		})
	}
}

// Who is INIT looks again by itself, whatever has kept it from seeing the change.
func TestInitLooksAgain(t *testing.T) {
	e, _, links, w := watched(t, nil)
	links.state, links.linkErr = link.State{}, netlink.LinkNotFoundError{}
	w.lookNow()
	state := func() carp.State { return e.groups[0].machine.Snapshot(link.BootTime()).State }
	if state() != carp.Init {
		t.Fatalf("state %v without an interface", state())
	}
	links.looks = 0
	now := time.Now()
	for end := now.Add(5 * time.Second); now.Before(end); {
		wait := w.look(now) // nothing is heard from the kernel
		e.runCalls(link.BootTime())
		now = now.Add(wait)
	}
	if links.looks < 4 || links.looks > 6 {
		t.Errorf("%d looks in 5 s", links.looks)
	}
	// One that works is left alone.
	e, _, links, w = watched(t, nil)
	links.looks = 0
	for now, end := time.Now(), time.Now().Add(5*time.Second); now.Before(end); {
		now = now.Add(w.look(now))
		e.runCalls(link.BootTime())
	}
	if links.looks != 0 {
		t.Errorf("%d looks without a reason", links.looks)
	}
}

// Changes of interfaces that are none of ours cost nothing, and many changes of one
// that is ours few looks.
func TestForeignChanges(t *testing.T) {
	_, _, links, w := watched(t, nil)
	links.looks = 0
	addr := func(kind uint16, index uint32) {
		b := make([]byte, unix.SizeofIfAddrmsg)
		b[4], b[5] = byte(index), byte(index>>8)
		w.heard(kind, b)
		w.look(time.Now())
	}
	link := func(kind uint16, index uint32, name string) {
		b := make([]byte, unix.SizeofIfInfomsg)
		b[4] = byte(index)
		b = append(b, byte(5+len(name)), 0, unix.IFLA_IFNAME, 0)
		b = append(append(b, name...), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		w.heard(kind, b)
		w.look(time.Now())
	}
	for range 100 {
		addr(unix.RTM_NEWADDR, 77)
		link(unix.RTM_NEWLINK, 78, "veth1")
		link(unix.RTM_DELLINK, 78, "veth1")
	}
	if links.looks != 0 {
		t.Errorf("%d looks because of interfaces that are none of ours", links.looks)
	}
	for name, change := range map[string]func(){
		"an address of ours": func() { addr(unix.RTM_DELADDR, 3) },
		"the interface":      func() { link(unix.RTM_NEWLINK, 3, "renamed") },
		"one of its name":    func() { link(unix.RTM_NEWLINK, 9, "test0") },
		"not understood":     func() { w.heard(unix.RTM_NEWLINK, nil); w.look(time.Now()) },
	} {
		w.seen[w.e.ports[0]].at = time.Time{}
		links.looks = 0
		if change(); links.looks != 1 {
			t.Errorf("%s: %d looks", name, links.looks)
		}
	}
	links.looks = 0
	began := time.Now()
	for range 1000 {
		addr(unix.RTM_NEWADDR, 3)
	}
	if most := 2 + int(time.Since(began)/lookPause); links.looks > most {
		t.Errorf("%d looks for 1000 changes in %v", links.looks, time.Since(began))
	}
}

// A MASTER announces all its addresses when the interface has another MAC address.
func TestMACChange(t *testing.T) {
	six := func(c *Config) {
		r := c.Routers[0]
		r.VIPs, r.Machine.ID = []netip.Addr{netip.MustParseAddr("fe80::9"), netip.MustParseAddr("fd00::9")}, 6
		c.Routers = append(c.Routers, r)
	}
	e, f, links, w := watched(t, six)
	g := e.groups[0]
	links.state.MAC[5]++
	w.lookNow()
	if len(e.queues.work.take()) != 0 {
		t.Error("a BACKUP has something to announce")
	}
	now := link.BootTime()
	for _, r := range g.routers {
		e.step(g, now, carp.Event{Kind: carp.EvUp, Router: r.index, Src: r.src})
	}
	if _, ok := g.machine.Adopt(now, 9); !ok {
		t.Fatal("not master")
	}
	for _, t := range e.queues.work.take() {
		e.runTask(t)
	}
	links.state.MAC[5]++
	w.lookNow()
	tasks := e.queues.work.take()
	f.log = nil
	for _, x := range tasks {
		if x.kind == carp.ActAnnounce && len(x.vips) == 3 && x.vips[0].MAC == links.state.MAC &&
			x.vips[2].MAC == links.state.MAC {
			e.runTask(x)
		}
	}
	if got := strings.Join(f.log, ", "); !strings.HasPrefix(got, "announce") {
		t.Errorf("%d tasks, announced: %q", len(tasks), got)
	}
}

// What was ordered before the group went another way is not done when the worker
// answers at last: it would take addresses, or open the fence, beside another master.
func TestOverdue(t *testing.T) {
	for name, tc := range map[string]struct {
		kind carp.ActionKind
		at   string // the call during which the group gives up, "" before all
		want string
	}{
		"acquire, before":           {carp.ActAcquire, "", ""},
		"acquire, while it waits":   {carp.ActAcquire, "acquire", "acquire"},
		"acquire, while it unlocks": {carp.ActAcquire, "unfence", "acquire, unfence"},
		"renewal, before":           {carp.ActRenew, "", ""},
		"renewal, while it waits":   {carp.ActRenew, "renew fence", "renew fence"},
		"announcement":              {carp.ActAnnounce, "", ""},
	} {
		e, f := testEngine(t, nil)
		g := e.groups[0]
		giveUp := func() { g.latest.Add(1) }
		f.during = func(call string) {
			if call == tc.at {
				giveUp()
			}
		}
		e.order(g, carp.Action{Kind: tc.kind, Op: 0})
		if tc.at == "" {
			giveUp()
		}
		for _, x := range e.queues.work.take() {
			e.runTask(x)
		}
		if got := strings.Join(f.log, ", "); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
	// Silence comes late rather than never.
	e, f := testEngine(t, nil)
	e.order(e.groups[0], carp.Action{Kind: carp.ActRelease, Op: 1})
	e.groups[0].latest.Store(2)
	for _, x := range e.queues.work.take() {
		e.runTask(x)
	}
	if got := strings.Join(f.log, ", "); got != "fence, release, purge" {
		t.Errorf("release: %s", got)
	}
}

// The machine learns how renewals end.
func TestRenewalsAreAnswered(t *testing.T) {
	e, f, _, _ := watched(t, nil)
	g := e.groups[0]
	if _, ok := g.machine.Adopt(link.BootTime(), 9); !ok {
		t.Fatal("not master")
	}
	g.machine.Step(link.BootTime(), carp.Event{Kind: carp.EvDone, Op: 1})
	f.fail = errors.New("operation not permitted")
	e.deps.Addresses = failingRenewal{fakeAddresses{f}}
	for end := time.Now().Add(10 * time.Second); g.machine.Snapshot(link.BootTime()).State == carp.Master; {
		if time.Now().After(end) {
			t.Fatal("still MASTER though no lease can be renewed")
		}
		if now := link.BootTime(); now >= g.machine.Deadline() {
			e.step(g, now, carp.Event{Kind: carp.EvTick})
		}
		for _, x := range e.queues.work.take() {
			e.runTask(x)
		}
		e.runCalls(link.BootTime())
		time.Sleep(time.Millisecond) // the machine runs on the boot clock, which no test can move
	}
	if got := g.machine.Snapshot(link.BootTime()).Reason; !strings.Contains(got, "operation not permitted") {
		t.Errorf("reason %q", got)
	}
}

type failingRenewal struct{ fakeAddresses }

func (f failingRenewal) Renew([]vip.Address, time.Duration) error { return f.fail }
