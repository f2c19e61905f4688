package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// Sizes of what is measured with an election and ESP under traffic.
const (
	flowRate    = 200 // packets a second of each of four flows: one for each tick of the meter in a guest
	cuts        = 7
	switchovers = 20
	// window is how long traffic is looked at for each switchover, and for what a
	// machine makes of traffic when nothing happens.
	window   = 500 * time.Millisecond
	patience = 30 * time.Second
)

// traffic starts flows between h1 and h2, both ways and in both families.
func traffic(t lab.T, s *lab.Standard) *meter.Meter {
	t.Helper()
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: s.H1, To: s.H2, Src: src, Dst: dst, Port: port, Rate: flowRate})
	}
	m := meter.Start(t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	flowing(t, m.Flows, window)
	return m
}

// flowing waits until traffic has flowed for a while on all of some flows. It
// asks no daemon, which would take time from what is measured.
func flowing(t lab.T, flows []*meter.Flow, d time.Duration) {
	t.Helper()
	n := int(d.Seconds() * flowRate)
	want := make([]int, len(flows))
	for i, f := range flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(t, patience, "traffic flows again", func() bool {
		for i, f := range flows {
			if f.Received() < want[i] {
				time.Sleep(20 * time.Millisecond) // a guest pays for every look
				return false
			}
		}
		return true
	})
}

// refused is how many packets the ends of the tunnels have refused for their
// number so far.
func refused(s *lab.Standard) int {
	n := lab.Refused(nil, s.RGW.XfrmStat())
	for _, g := range s.Gateways {
		n += lab.Refused(nil, g.XfrmStat())
	}
	return n
}

// quiet is the median of the longest gaps of windows in which nothing happens:
// what the machine itself makes of the traffic.
func quiet(t lab.T, m *meter.Meter) time.Duration {
	t.Helper()
	var gaps []time.Duration
	for range 10 {
		from := time.Now()
		flowing(t, m.Flows, window)
		gaps = append(gaps, m.Between(from, time.Now()).Gap)
	}
	return median(gaps)
}

// phase waits for an advertisement of the master on the inside, then a part of
// the interval.
func phase(t lab.T, p *scenario.Pair, master *scenario.Member, part float64) {
	t.Helper()
	if _, err := scenario.AwaitAdvert(p.H1, "eth0", master.InAddr, p.Interval); err != nil {
		t.Fatalf("%v", err)
	}
	time.Sleep(time.Duration(part * float64(p.Interval))) // what is measured, not a wait for something
}

// unplanned: the master's power is cut, spread over the interval between two of
// its advertisements.
func unplanned(t lab.T) (lines []result.Line) {
	for _, c := range []struct{ interval, target time.Duration }{{250 * time.Millisecond, time.Second},
		{50 * time.Millisecond, 300 * time.Millisecond}} {
		p := scenario.NewPair(t)
		p.Interval, p.AloneAfter = c.interval, time.Second
		gw1, gw2 := p.Members[0], p.Members[1]
		p.Start()
		p.StartHold = 100 * time.Millisecond // from now on
		m := traffic(t, p.Standard)
		calm := quiet(t, m)
		var gaps []time.Duration
		before := refused(p.Standard)
		for k := range cuts {
			phase(t, p, gw1, (float64(k)+0.5)/cuts)
			from := time.Now()
			gw1.Off()
			flowing(t, m.Flows, window)
			gaps = append(gaps, m.Between(from, time.Now()).Gap)
			gw2.WaitRole("MASTER")
			gw1.Return()
			p.WaitFit(gw2)
			gw2.Resign()
			p.WaitFit(gw1)
		}
		m.Stop()
		outage[c.interval] = median(gaps)
		lines = append(lines, result.Line{
			What: fmt.Sprintf("unplanned failover with ESP, adverts every %d ms: traffic gap, median of %d",
				c.interval.Milliseconds(), cuts),
			Target: fmt.Sprintf("<= %.1f s", c.target.Seconds()), Figure: ms(median(gaps)),
			Verdict: result.Of(median(gaps) <= c.target),
			Note: fmt.Sprintf("from %s to %s; %s where nothing happens; %d packets refused for their number",
				ms(slices.Min(gaps)), ms(slices.Max(gaps)), ms(calm), refused(p.Standard)-before),
		})
		for _, mem := range p.Members {
			mem.KillDaemons()
		}
	}
	return lines
}

// outage is what unplanned has measured, by interval, for what peers are beside.
var outage = map[time.Duration]time.Duration{}

// planned: the master is told to resign, to and fro.
func planned(t lab.T) []result.Line {
	p := scenario.NewPair(t)
	p.Start()
	m := traffic(t, p.Standard)
	calm := quiet(t, m)
	before := refused(p.Standard)
	var gaps []time.Duration
	lost := 0
	for k := range switchovers {
		old, next := p.Members[k%2], p.Members[(k+1)%2]
		from := time.Now()
		old.Resign()
		flowing(t, m.Flows, window)
		to := time.Now()
		next.WaitRole("MASTER")
		p.WaitFit(next)
		r := m.Between(from, to)
		gaps, lost = append(gaps, r.Gap), lost+r.Lost
	}
	m.Stop()
	med, worst, ref := median(gaps), slices.Max(gaps), refused(p.Standard)-before
	what := fmt.Sprintf("planned switchover with ESP, %d: ", switchovers)
	return []result.Line{
		{What: what + "traffic gap, median", Target: "<= 20 ms", Figure: ms(med), Floor: ms(calm) +
			" where nothing happens",
			Ratio: float64(med) / float64(max(calm, time.Microsecond)), Verdict: result.Of(med <= 20*time.Millisecond),
			Note: fmt.Sprintf("the floor is the median of the longest gaps in as long a time without a switchover, "+
				"so that much is the machine's and not the switchover's; %d packets lost", lost)},
		{What: what + "traffic gap, worst", Target: "<= 100 ms", Figure: ms(worst),
			Verdict: result.Of(worst <= 100*time.Millisecond)},
		{What: what + "packets refused for their number", Target: "0", Figure: fmt.Sprint(ref),
			Verdict: result.Of(ref == 0)},
	}
}
