package matrix

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/reliability"
)

// cell is one fault at one moment.
type cell struct {
	*row
	moment moment

	began, injected time.Time
	back            time.Time // of the first sasyncd, see fault.masterless
	first           *side     // master at the beginning
	target, other   *side     // of the fault
	master, standby *side     // in the end
	before          wire
	changes         int
}

// TestMatrix makes every fault at every moment.
func TestMatrix(t *testing.T) {
	for _, f := range faults() {
		var todo []moment
		for _, m := range moments() {
			if wanted(f.name + "/" + m.name) {
				todo = append(todo, m)
			}
		}
		if len(todo) == 0 {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			for n := 1; len(todo) > 0; n++ {
				// A pair lives until a cell fails.
				t.Run(fmt.Sprint("pair ", n), func(t *testing.T) {
					var r *row
					for len(todo) > 0 {
						m := todo[0]
						todo = todo[1:]
						if why := f.impossible(m); why != "" {
							report(t, &reliability.Cell{Fault: f.name, Moment: m.name, Verdict: reliability.NA,
								Reason: why, GapMS: -1, BudgetMS: -1})
							continue
						}
						if r == nil {
							r = newRow(t, f)
						}
						res := r.run(m)
						report(t, res)
						if res.Verdict != reliability.OK {
							return
						}
					}
				})
			}
		})
	}
}

// wanted reports whether a cell is among those of the flag.
func wanted(name string) bool {
	for part := range strings.SplitSeq(*only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func (f *fault) impossible(m moment) string {
	if why := f.possible(); why != "" {
		return why
	}
	return f.na[m.name]
}

// run makes one cell.
func (r *row) run(m moment) *reliability.Cell {
	began := time.Now()
	c := &cell{row: r, moment: m}
	gap, budget := -1, -1
	func() {
		r.t.armed.Store(true)
		defer r.t.armed.Store(false)
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(over); !ok {
					panic(p)
				}
			}
		}()
		gap, budget = c.live()
	}()
	says := r.t.take()
	res := &reliability.Cell{Fault: r.fault.name, Moment: m.name, Verdict: reliability.OK, GapMS: gap, BudgetMS: budget,
		Changes: c.changes,
		Seconds: float64(time.Since(began).Milliseconds()) / 1000}
	if len(says) > 0 {
		res.Verdict, res.Reason = reliability.Failed, strings.Join(says, "; ")
	}
	return res
}

// live makes the fault and looks at what came of it.
func (c *cell) live() (gap, budget int) {
	if c.moment.name != idle {
		c.startTraffic()
	}
	c.first, _ = c.settle()
	c.target = c.first
	c.other = c.sides[1-c.index(c.first)]
	if c.pings != nil {
		c.pings.take()
	}
	c.began, c.before = time.Now(), c.wire()
	c.moment.run(c)
	c.master, c.standby = c.settle()
	c.startTraffic() // in the idle cell only now: the tunnels work
	c.flow()
	if c.pings != nil {
		gap = int(c.pings.take().Milliseconds())
		budget = 1000
	} else {
		ended := time.Now()
		c.flow()
		gap, budget = -1, -1
		if c.moment.name != idle {
			b := c.allowed()
			got := c.meter.Between(c.began, ended)
			gap, budget = int(got.Gap.Milliseconds()), int(b.Milliseconds())
			if got.Gap > b {
				c.t.Errorf("a gap of %d ms, at most %d ms are promised: %v", gap, budget, got)
			}
		}
	}
	c.check()
	return gap, budget
}

// pause is what is no gap: a guest is one busy processor.
const pause = 150 * time.Millisecond

// allowed is how long traffic may stand still in this cell.
func (c *cell) allowed() time.Duration {
	b := max(c.fault.budget, pause)
	switch c.moment.name {
	case takeover: // that of the hand-over is part of it
		b += gapHandOver
		if c.fault.dies {
			b += gapUnsure
		}
		if c.fault.mute {
			b += gapMute
		}
		if c.fault.masterless {
			b += c.back.Sub(c.injected) + gapFailover
		}
	case snapshot: // the other is not complete
		switch {
		case c.fault.dies:
			b += gapUnsure + gapAlone
		case c.fault.budget > 0:
			b += gapSnapshot
		}
	case twice:
		b += c.fault.budget
	}
	return b
}

func (c *cell) startTraffic() {
	switch {
	case c.fault.clock:
		if c.pings == nil {
			c.pings = startPinger(c.Pair)
			c.t.Cleanup(c.pings.end)
		}
	case c.meter == nil:
		var flows []meter.Config
		for i, a := range [][2]int{{0, 7000}, {1, 7002}} {
			cfg := meter.Config{From: c.H1, To: c.H2, Src: lab.H1Addr, Dst: lab.H2Addr, Port: uint16(a[1]), Rate: rate}
			if i == 1 {
				cfg.Src, cfg.Dst = lab.H1Addr6, lab.H2Addr6
			}
			flows = append(flows, meter.Both(cfg)...)
		}
		c.meter = meter.Start(c.t, flows...)
	}
}

// flow waits until traffic has flowed for half a second.
func (c *cell) flow() {
	if c.pings != nil {
		n := c.pings.answered()
		lab.Eventually(c.t, limit, "answers to pings",
			func() bool { time.Sleep(20 * time.Millisecond); return c.pings.answered() > n+5 })
		return
	}
	var want []int
	for _, f := range c.meter.Flows {
		want = append(want, f.Received()+rate/2)
	}
	lab.Eventually(c.t, limit, "traffic on every flow", func() bool {
		time.Sleep(20 * time.Millisecond)
		for i, f := range c.meter.Flows {
			if f.Received() < want[i] {
				return false
			}
		}
		return true
	})
}

// report prints a result for the generator of docs/reliability.md.
func report(t *testing.T, result any) {
	t.Helper()
	var u unix.Utsname
	_ = unix.Uname(&u)
	st := reliability.Stamp{Seed: *seed, Version: *version, Kernel: "Linux " + unix.ByteSliceToString(u.Release[:]),
		Date: time.Now().UTC().Format("2006-01-02")}
	switch r := result.(type) {
	case *reliability.Cell:
		r.Stamp = st
		t.Logf("%s, %s: %s, gap %d ms of %d, %d changes of master, %.1f s %s", r.Fault, r.Moment, r.Verdict, r.GapMS,
			r.BudgetMS, r.Changes, r.Seconds, r.Reason)
	case *reliability.Run:
		r.Stamp = st
	}
	if err := reliability.Print(os.Stdout, result); err != nil {
		t.Error(err)
	}
}
