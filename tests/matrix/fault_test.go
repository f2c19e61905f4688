package matrix

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// fault is something bad. Inject and heal do not wait for what comes of it, so
// that it can happen twice at once. The target is the master, or who is about
// to be it.
type fault struct {
	name string
	// prepare changes the pair before its daemons start.
	prepare func(*row)
	inject  func(*cell)
	heal    func(*cell)
	hold    time.Duration // between the two
	// budget is how long traffic may stand still. 0: it does not notice.
	budget time.Duration
	// edits: the test itself changes tables; gone: and the tunnels' SAs go.
	edits bool
	// dies: the node falls silent without a word, perhaps before the other has
	// its tables.
	dies bool
	// clock: no traffic can be metered.
	clock bool
	// stalled: a node goes on as master without knowing better, until its
	// addresses' lease of 2 s has ended.
	stalled bool
	// mute: sasyncd is there and does not answer. Who takes over asks it first.
	mute bool
	// masterless: while a hand-over is under way, both nodes lose what says that
	// it may be MASTER. Nobody is until one has it back.
	masterless bool

	na map[string]string // reason, by moment
}

const second = time.Second

// Budgets. Adverts come every 250 ms, so a silent master is replaced after 750
// to 900 ms.
const (
	gapFailover = 1200 * time.Millisecond
	gapHandOver = 600 * time.Millisecond
	// gapUnsure is how long a node waits for another that is known to hold more
	// than itself, and says nothing any more: until its session ends.
	gapUnsure = 3 * time.Second
	// gapAlone is how long one that is not complete waits then.
	gapAlone = 3 * time.Second
	// gapTracked is for a cable that fails in one direction, which only `track
	// ping ... interval 100ms fail 3` notices. The last answer came just before:
	// 100 ms to the next request, two more intervals to the third, 100 ms in which
	// that could be answered. Then the master hands over.
	gapTracked = 400*time.Millisecond + gapHandOver
	// gapMute is how long carpd waits for it: prepare-timeout. Then the old master
	// goes on.
	gapMute = 2 * time.Second
	// gapSnapshot is what the rest of a snapshot may take.
	gapSnapshot = 2 * time.Second
)

func nothing(*cell) {}

func faults() []fault {
	return []fault{
		{name: "carpd killed", inject: func(c *cell) { c.target.Carpd.Kill() },
			heal: func(c *cell) { c.target.StartCarpd() },
			hold: 2 * second, budget: gapFailover},
		{name: "sasyncd killed", inject: func(c *cell) { c.target.stopSasyncd() },
			heal: func(c *cell) { c.target.startSasyncd() },
			hold: 5 * second, budget: gapHandOver},
		{name: "sasyncd killed on the standby", inject: func(c *cell) { c.other.stopSasyncd() },
			heal: func(c *cell) { c.other.startSasyncd() },
			hold: 2 * second},
		{name: "IKE daemon's hook killed", prepare: withHook, inject: killHook, heal: nothing, hold: second,
			budget: gapHandOver},
		{name: "power cut", inject: func(c *cell) { c.target.off() }, heal: func(c *cell) { c.target.on() },
			hold: 2 * second, dies: true, budget: gapFailover},
		{name: "power cut of the standby", inject: func(c *cell) { c.other.off() },
			heal: func(c *cell) { c.other.on() }, hold: 2 * second},
		{name: "carpd stopped (SIGSTOP)", inject: func(c *cell) { c.target.Carpd.Signal(syscall.SIGSTOP) },
			heal: func(c *cell) { c.target.Carpd.Signal(syscall.SIGCONT) }, hold: 3 * second, budget: gapFailover,
			stalled: true},
		{name: "sasyncd stopped (SIGSTOP)", inject: func(c *cell) { c.target.Sasyncd.Signal(syscall.SIGSTOP) },
			heal: func(c *cell) { c.target.Sasyncd.Signal(syscall.SIGCONT) }, hold: 4 * second, budget: gapHandOver,
			mute: true},
		{name: "sync link cut", inject: func(c *cell) { c.target.Sync.Pull() },
			heal: func(c *cell) { c.target.Sync.Replug() }, hold: 6 * second},
		{name: "sync link cut one way, from the master", inject: func(c *cell) { c.target.Sync.Block(lab.Out) },
			heal: func(c *cell) { c.target.Sync.Unblock(lab.Out) }, hold: 6 * second},
		{name: "sync link cut one way, to the master", inject: func(c *cell) { c.target.Sync.Block(lab.In) },
			heal: func(c *cell) { c.target.Sync.Unblock(lab.In) }, hold: 6 * second},
		{name: "LAN cut", inject: func(c *cell) { c.target.LAN.Pull() }, heal: func(c *cell) { c.target.LAN.Replug() },
			hold: 2 * second, budget: gapFailover},
		{name: "WAN cut", inject: func(c *cell) { c.target.WAN.Pull() }, heal: func(c *cell) { c.target.WAN.Replug() },
			hold: 2 * second, budget: gapFailover},
		{name: "LAN cut one way, from the master", prepare: tracked,
			inject: func(c *cell) { c.target.LAN.Block(lab.Out) },
			heal:   func(c *cell) { c.target.LAN.Unblock(lab.Out) }, hold: 2 * second, budget: gapTracked},
		{name: "LAN cut one way, to the master", prepare: tracked, inject: func(c *cell) { c.target.LAN.Block(lab.In) },
			heal: func(c *cell) { c.target.LAN.Unblock(lab.In) }, hold: 2 * second, budget: gapTracked},
		{name: "WAN cut one way, from the master", prepare: tracked,
			inject: func(c *cell) { c.target.WAN.Block(lab.Out) },
			heal:   func(c *cell) { c.target.WAN.Unblock(lab.Out) }, hold: 2 * second, budget: gapTracked},
		{name: "WAN cut one way, to the master", prepare: tracked, inject: func(c *cell) { c.target.WAN.Block(lab.In) },
			heal: func(c *cell) { c.target.WAN.Unblock(lab.In) }, hold: 2 * second, budget: gapTracked},
		{name: "all links cut", inject: func(c *cell) { c.each(c.target.Ports(), (*lab.Port).Pull) },
			heal: func(c *cell) { c.each(c.target.Ports(), (*lab.Port).Replug) }, hold: 2 * second, dies: true,
			budget: gapFailover},
		{name: "clock one hour ahead", inject: func(c *cell) { c.step(time.Hour) },
			heal: func(c *cell) { c.step(-time.Hour) }, hold: 4 * second, clock: true},
		{name: "clock one hour back", inject: func(c *cell) { c.step(-time.Hour) },
			heal: func(c *cell) { c.step(time.Hour) }, hold: 4 * second, clock: true},
		{name: "disk full", prepare: smallDisk, inject: fillDisk, heal: emptyDisk, hold: 2 * second,
			budget: gapFailover},
		{name: "5 % of packets lost", inject: func(c *cell) { c.impair(0, 0, 5) }, heal: (*cell).repair,
			hold: 3 * second, budget: gapFailover},
		{name: "50 ms of delay", inject: func(c *cell) { c.impair(50*time.Millisecond, 0, 0) }, heal: (*cell).repair,
			hold: 3 * second, budget: gapFailover},
		{name: "packets reordered", inject: func(c *cell) { c.impair(20*time.Millisecond, 19*time.Millisecond, 0) },
			heal: (*cell).repair, hold: 3 * second, budget: gapFailover},
		{name: "events lost (ENOBUFS)", inject: overflow,
			heal: func(c *cell) { c.target.Sasyncd.Signal(syscall.SIGCONT) }, budget: gapHandOver, edits: true},
		{name: "flush on the master", inject: func(c *cell) { c.flush(c.target) },
			heal: func(c *cell) { c.negotiate(c.target); c.local(c.index(c.target)) },
			hold: 500 * time.Millisecond, budget: 3 * second, edits: true},
		{name: "flush on the standby", inject: func(c *cell) { c.flush(c.other) },
			heal: func(c *cell) { c.local(c.index(c.other)) }, hold: second, edits: true},
		{name: "edits on the master", inject: editMaster, heal: nothing, hold: second, edits: true},
		{name: "edits on the standby", inject: editStandby, heal: nothing, hold: second, edits: true},
		{name: "wrong key", inject: func(c *cell) { c.rekeyed(scenario.NewKey()) },
			heal: func(c *cell) { c.rekeyed(c.target.Key) }, hold: 4 * second},
		{name: "stale node returns", inject: stale, heal: func(c *cell) { c.target.on() }, hold: second, dies: true,
			budget: gapFailover, edits: true},
		{name: "empty node returns", inject: func(c *cell) { c.target.off(); c.target.Forget() },
			heal: emptyReturns, hold: 2 * second, budget: gapFailover, dies: true, edits: true},
		{name: "both daemons restarted", inject: func(c *cell) { c.bothDie() },
			heal: func(c *cell) { c.target.StartCarpd(); c.target.startSasyncd() }, hold: 100 * time.Millisecond,
			budget: gapFailover},
		{name: "sasyncd restarted on both nodes", prepare: patient,
			inject: func(c *cell) { c.target.stopSasyncd(); c.other.stopSasyncd() },
			heal:   bothReturn, hold: second, masterless: true},
		// A sasyncd that is stopped in good order on a MASTER hands over first: 100 ms
		// are promised for that.
		{name: "upgrade (restart behind a freeze)", inject: func(c *cell) { c.upgrade() }, heal: nothing, hold: second,
			budget: 100*time.Millisecond + pause,
			na: map[string]string{
				twice:    "an upgrade waits until the daemon answers before it can restart it again",
				takeover: "carpd freezes what it is master of; a restart before that is a restart of both daemons",
			}},
	}
}

// emptyReturns boots the target with nothing in its kernel. What the test has there
// for itself comes after what a boot does first.
func emptyReturns(c *cell) {
	c.target.Boot()
	c.local(c.index(c.target))
	c.target.on()
}

func (c *cell) index(s *side) int { return slices.Index(c.sides, s) }

func (c *cell) each(ports []*lab.Port, f func(*lab.Port)) {
	for _, p := range ports {
		f(p)
	}
}

// tracked has each gateway ask a machine on either side: what a group does about
// a cable that carries nothing in one direction.
func tracked(r *row) {
	for _, a := range []netip.Addr{lab.H1Addr, lab.RGWOut} {
		r.CarpdExtra += fmt.Sprintf("track ping %v group %s interval 100ms fail 3\n", a, scenario.Group)
	}
}

// withHook makes sasyncd drive an "IKE daemon" that is a program of the test: it
// writes down what it was told, a moment after it was told.
func withHook(r *row) {
	for _, m := range r.Members {
		p := m.WriteFile("hook", "#!/bin/sh\necho $$ > "+m.Dir()+"/hook.pid\nsleep 0.3\necho $SASYNCD_STATE >> "+
			m.Dir()+"/hook.log\n")
		if err := os.Chmod(p, 0o700); err != nil {
			r.t.Fatalf("%v", err)
		}
	}
	r.Control = `exec "DIR/hook"`
}

// killHook has the election hand over, unless it does already, and kills the
// hook while it is being told.
func killHook(c *cell) {
	for _, s := range c.sides {
		_ = os.Remove(filepath.Join(s.Dir(), "hook.pid"))
	}
	if c.moment.name != takeover {
		var in []*side
		lab.Eventually(c.t, limit, "a master to resign", func() bool {
			time.Sleep(20 * time.Millisecond)
			in, _ = c.masters()
			return len(in) == 1
		})
		in[0].Resign()
	}
	var pid int
	lab.Eventually(c.t, limit, "a hook to run", func() bool {
		for _, s := range c.sides {
			b, _ := os.ReadFile(filepath.Join(s.Dir(), "hook.pid"))
			if n, _ := fmt.Sscanf(string(b), "%d\n", &pid); n == 1 && strings.HasSuffix(string(b), "\n") {
				return true
			}
		}
		return false
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		c.t.Fatalf("kill the hook: %v", err)
	}
}

// step sets the clock of the whole guest.
func (c *cell) step(d time.Duration) {
	now := time.Now().Add(d)
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		c.t.Fatalf("step the clock: %v", err)
	}
}

// smallDisk puts the daemons' state on a file system of 64 kB.
func smallDisk(r *row) {
	r.StateDir = "state"
	for _, m := range r.Members {
		dir := m.State()
		if err := os.Mkdir(dir, 0o700); err != nil {
			r.t.Fatalf("%v", err)
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
			r.t.Fatalf("mount a small disk: %v", err)
		}
		r.t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				r.t.Errorf("unmount the small disk: %v", err)
			}
		})
	}
}

// fillDisk fills both disks, and restarts the daemons of the target.
func fillDisk(c *cell) {
	for _, s := range c.sides {
		f, err := os.Create(filepath.Join(s.State(), "filler"))
		if err != nil {
			c.t.Fatalf("%v", err)
		}
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		f.Close()
	}
	c.bothDie()
	c.target.StartCarpd()
	c.target.startSasyncd()
}

// patient has a MASTER without sasyncd wait for it as long as by default, 8 s: in a slow
// guest two restarts take longer than the rows' `alone after`, and then it hands over to a
// standby that has none either.
func patient(r *row) { r.AloneAfter = 10 * time.Second }

// bothReturn starts sasyncd on both, and notes when the first is ready.
func bothReturn(c *cell) {
	c.target.startSasyncd()
	c.other.startSasyncd()
	ready := func(s *side) bool { return strings.Contains(s.Sasyncd.Output(), " ready") }
	lab.Eventually(c.t, limit, "a sasyncd to be ready", func() bool { return ready(c.target) || ready(c.other) })
	c.back = time.Now()
}

// bothDie kills both daemons, and does what carpd's unit does then.
func (c *cell) bothDie() {
	c.target.Carpd.Kill()
	c.target.stopSasyncd()
	if out, err := ctl(c.t.T, c.target.Node, "carpd", "-c "+filepath.Join(c.target.Dir(), "carpd.conf")+
		" cleanup"); err != nil {
		c.t.Errorf("%v\n%s", err, out)
	}
}

func emptyDisk(c *cell) {
	for _, s := range c.sides {
		_ = os.Remove(filepath.Join(s.State(), "filler"))
	}
}

// impair impairs what goes to the gateways, of each other and of all others.
func (c *cell) impair(delay, jitter time.Duration, loss float64) {
	for _, s := range c.sides {
		c.each(s.Ports(), func(p *lab.Port) { p.Impair(delay, jitter, loss) })
	}
}

func (c *cell) repair() {
	for _, s := range c.sides {
		c.each(s.Ports(), func(p *lab.Port) { p.Unblock(lab.In) })
	}
}

// overflow has the master's kernel announce more than sasyncd's buffer holds.
func overflow(c *cell) {
	c.target.Sasyncd.Signal(syscall.SIGSTOP)
	p := kerneltest.SamplePolicy(sadb.DirOut, "10.250.0.0/16", "10.251.0.0/16", lab.VIPOut.String(), "198.51.100.1")
	for len(p.Templates) < 6 {
		p.Templates = append(p.Templates, p.Templates[0])
	}
	ops := slices.Repeat([]sadb.Op{{Kind: sadb.OpUpdatePolicy, Policy: p}}, 1000)
	for range 120 {
		for _, err := range c.target.kernel.Apply(c.t.Context(), ops) {
			if err != nil {
				c.t.Fatalf("update a policy: %v", err)
			}
		}
	}
	if err := c.apply(c.target, sadb.OpAddSA, c.sas(50)...); err != nil {
		c.t.Fatalf("%v", err)
	}
}

func (c *cell) flush(s *side) {
	if err := s.Netlink().XfrmStateFlush(0); err != nil {
		c.t.Fatalf("flush %s: %v", s.Name, err)
	}
	if s == c.target {
		for _, tn := range c.tunnels {
			c.dead[tn.SPIOut], c.dead[tn.SPIIn] = true, true
		}
		c.bulk = c.bulk[:0] // a flush of a master that lives on is meant
	}
}

// editMaster adds an SA of the group, changes a policy, and deletes what was
// added before.
func editMaster(c *cell) {
	c.negotiate(c.target)
	if err := c.apply(c.target, sadb.OpAddSA, c.sas(2)...); err != nil {
		c.t.Fatalf("%v", err)
	}
	tn := c.tunnels[0]
	c.target.IP(fmt.Sprintf("xfrm policy update dir fwd src %s dst %s priority %d tmpl src %s dst %s proto esp reqid "+
		"%d mode tunnel",
		tn.RemoteNet, tn.LocalNet, 1000+c.rand.IntN(1000), tn.Remote, tn.Local, tn.ReqID))
}

// editStandby deletes, adds and changes behind sasyncd's back.
func editStandby(c *cell) {
	tn := c.tunnels[0]
	c.dead[tn.SPIIn] = true // the test's own deletion is no loss
	// The second time there may be none to delete yet.
	_, _ = c.other.Try(fmt.Sprintf("ip xfrm state del src %s dst %s proto esp spi %#x", tn.Remote, tn.Local, tn.SPIIn))
	c.other.IP(fmt.Sprintf("xfrm policy update dir out src %s dst %s priority 77 tmpl src %s dst %s proto esp reqid "+
		"%d mode tunnel",
		tn.LocalNet, tn.RemoteNet, tn.Local, tn.Remote, tn.ReqID))
	if err := c.apply(c.other, sadb.OpAddSA, c.sas(2)...); err != nil {
		c.t.Fatalf("%v", err)
	}
}

// rekeyed restarts sasyncd of the standby with another shared key, or its own.
func (c *cell) rekeyed(key string) {
	own := c.other.Key
	c.other.stopSasyncd()
	c.other.Key = key
	c.other.startSasyncd()
	c.other.Key = own
}

// stale cuts the power of the target, and has its successor negotiate twice.
func stale(c *cell) {
	c.target.off()
	c.other.WaitRole("MASTER")
	c.negotiate(c.other)
	c.negotiate(c.other)
}

// upgrade restarts both daemons as a package's upgrade does.
func (c *cell) upgrade() {
	c.target.without = append(c.target.without, span{from: time.Now()})
	c.target.Sasyncd.Term(limit)
	c.target.startSasyncd()
	m := c.target.Member
	lab.Eventually(c.t, limit, "sasyncd to be back", func() bool {
		s, err := m.Status()
		return err == nil && len(s.Members) == 1
	})
	m.Freeze(8 * time.Second)
	m.Carpd.Term(limit)
	m.StartCarpd()
}

// possible says why a fault cannot be made here, "" if it can.
func (f *fault) possible() string {
	if f.clock && !harness.Guest() {
		return "the clock is the host's"
	}
	return ""
}
