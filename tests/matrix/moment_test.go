package matrix

import (
	"strings"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/harness/lab"
)

// moment is when a fault happens.
type moment struct {
	name string
	// run calls inject at that moment, and then heals.
	run func(c *cell)
}

// Names of moments to which faults refer.
const (
	idle     = "idle"
	steady   = "steady"
	storm    = "rekey storm"
	takeover = "take-over"
	twice    = "twice"
	snapshot = "snapshot"
)

// moments are in the order in which they happen to a pair: traffic begins after
// the first, and the crowd of the last is slow to look at.
func moments() []moment {
	return []moment{
		{idle, func(c *cell) { c.once() }},
		{steady, func(c *cell) { c.once() }},
		{storm, duringStorm},
		{takeover, duringTakeover},
		{twice, twiceAtOnce},
		{snapshot, duringSnapshot},
	}
}

// once injects, holds, heals.
func (c *cell) once() {
	c.inject()
	time.Sleep(c.fault.hold)
	c.fault.heal(c)
}

func (c *cell) inject() {
	c.injected = time.Now()
	c.fault.inject(c)
}

// duringStorm: SAs are made and deleted on the master, 400 a second.
func duringStorm(c *cell) {
	stop := c.storm(c.target)
	defer func() {
		if n, err := stop(); err != nil || n < 20 {
			c.t.Errorf("the storm had %d rekeys: %v", n, err)
		}
	}()
	time.Sleep(300 * time.Millisecond)
	c.once()
}

// duringTakeover: the fault hits who is taking over, some milliseconds after
// the old master was told to resign.
func duringTakeover(c *cell) {
	c.target.Resign()
	c.target, c.other = c.other, c.target
	time.Sleep(time.Duration(c.rand.IntN(40)) * time.Millisecond)
	c.once()
}

// twiceAtOnce: again before an advertisement interval has passed.
func twiceAtOnce(c *cell) {
	c.inject()
	time.Sleep(100 * time.Millisecond)
	c.fault.heal(c)
	time.Sleep(100 * time.Millisecond)
	c.once()
}

// many SAs make a snapshot that takes a while.
const many = 3000

// duringSnapshot: the standby's sasyncd has been started and fetches thousands
// of SAs.
func duringSnapshot(c *cell) {
	if c.bulk == nil {
		c.bulk = c.sas(many)
		if err := c.apply(c.target, sadb.OpAddSA, c.bulk...); err != nil {
			c.t.Fatalf("%v", err)
		}
		lab.Eventually(c.t, limit, "the crowd to be on both", func() bool {
			time.Sleep(100 * time.Millisecond)
			g, err := c.other.Status()
			return err == nil && len(g.Groups) == 1 && g.Groups[0].SAs >= many
		})
		c.WaitFit(c.target.Member)
	}
	sent := func() int { return strings.Count(c.target.Sasyncd.Output(), "sending a snapshot") }
	was := sent()
	// One that has just started knows of nothing that it has; a standby that asks
	// for everything anew would stay complete.
	c.other.stopSasyncd()
	c.other.startSasyncd()
	lab.Eventually(c.t, limit, "a snapshot to be sent", func() bool { return sent() > was })
	c.once()
}
