package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
)

// Budgets of the traffic's longest gap.
const (
	BudgetPowerCut = time.Second
	// BudgetHandOver tells a hand-over from a takeover after silence. That it takes
	// no more than 100 ms is promised of a machine, and measured by make bench: here
	// four daemons, two hosts and the meter take turns on the one processor of a
	// guest, so that on a busy machine nothing but turns can take longer than that.
	BudgetHandOver = 250 * time.Millisecond
)

// Rate of each of the four flows (IPv4 and IPv6, both ways): 1,000 packets a
// second in each direction.
const (
	flowRate = 500
	// restFor is how long traffic is watched behind each event.
	restFor = 3 * time.Second
	// transferLimit is how long the TCP transfer may take to end: its last
	// bytes may wait for a retransmission.
	transferLimit = 20 * time.Second
)

// run is one run of the scenario.
type run struct {
	*Pair
	t    lab.T
	tell Teller
	mu   sync.Mutex // of tell

	capture  *capture.Capture
	meter    *meter.Meter
	transfer *meter.Transfer
	sent     sentESP

	phases []*Phase
	before Tables // of gw1 at the start
}

// Run starts a pair and lets it live through its two cycles of power cut,
// return and hand-over, under traffic that never stops. It ends the test when
// something does not happen at all; what happened, but not well enough, is in
// the result.
func Run(t lab.T, tell Teller) *Result {
	t.Helper()
	if tell == nil {
		tell = silent
	}
	r := &run{t: t}
	r.tell = func(at time.Time, who, what string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		tell(at, who, what)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		background.Wait()
	})

	r.say("lab", "h1 - (gw1 | gw2) - rgw - h2; gw1 has the tunnels' SAs and policies, gw2 has nothing")
	r.Pair = NewPair(t)
	r.Pair.logs.tell = r.tell
	background.Go(func() { r.Pair.logs.run(ctx) })
	gw1, gw2 := r.Members[0], r.Members[1]
	r.Start()
	r.compareTables(gw1, gw2)
	r.startTraffic()
	background.Go(func() { r.tellTraffic(ctx) })

	r.phase("steady", 0, "")
	r.rest()
	r.cycle(gw1, gw2, false)
	r.cycle(gw1, gw2, true)
	res := r.finish()
	cancel()
	background.Wait()
	return res
}

// cycle lets gw1 die, gw2 take over, gw1 return, and gw2 hand back.
func (r *run) cycle(gw1, gw2 *Member, forget bool) {
	r.t.Helper()
	r.phase("power cut of gw1", BudgetPowerCut, "gw1: cables dead, carpd and sasyncd killed")
	gw1.Off()
	r.sends(gw2)
	r.rest()
	gw2.WaitRole("MASTER")

	if forget {
		r.phase("gw1 returns, empty", 0, "gw1: kernel tables emptied as by a reboot, daemons start, then the cables "+
			"come alive")
		gw1.Forget()
	} else {
		r.phase("gw1 returns", 0, "gw1: daemons start, then the cables come alive")
	}
	gw1.Return()
	r.WaitFit(gw2)
	r.rest()

	r.phase("hand-over to gw1", BudgetHandOver, "gw2: told to resign")
	gw2.Resign()
	r.sends(gw1)
	r.rest()
	r.WaitFit(gw1)
}

// startTraffic starts what is measured and what measures.
func (r *run) startTraffic() {
	r.t.Helper()
	r.capture = capture.Start(r.t, capture.Config{Ports: r.WANPorts(), Inner: lab.Inner(), Watch: r.sent.count})
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: r.H1, To: r.H2, Src: src, Dst: dst, Port: port, Rate: flowRate})
	}
	r.transfer = meter.StartTransfer(r.t, r.H1, r.H2, lab.H1Addr, lab.H2Addr, 8000)
	r.meter = meter.Start(r.t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	r.say("traffic", fmt.Sprintf("h1 and h2 send each other %d packets/s, half IPv4, half IPv6; a TCP transfer "+
		"runs beside", 2*flowRate))
}

// phase ends the phase before and begins one. Without a budget, nothing may be
// lost in it.
func (r *run) phase(name string, budget time.Duration, what string) {
	r.t.Helper()
	now := time.Now()
	refused := r.refusals()
	r.endPhase(now, refused)
	r.phases = append(r.phases, &Phase{Name: name, From: now, Budget: budget, Steady: budget == 0, refused: refused})
	if what == "" {
		return
	}
	// A moment, so that a gap that the event makes begins in its own phase.
	r.flows(flowRate / 10)
	r.say("==", what)
}

func (r *run) endPhase(now time.Time, refused int) {
	if len(r.phases) == 0 {
		return
	}
	p := r.phases[len(r.phases)-1]
	p.To, p.Refused = now, refused-p.refused
	r.say("==", fmt.Sprintf("%s: longest gap %d ms", p.Name, r.meter.Between(p.From, p.To).Gap.Milliseconds()))
}

// refusals is the number of packets that any end of the tunnels has refused
// for their sequence number so far.
func (r *run) refusals() int {
	n := 0
	for _, nd := range []*lab.Node{r.RGW, r.Members[0].Node, r.Members[1].Node} {
		n += lab.Refused(nil, nd.XfrmStat())
	}
	return n
}

// rest waits until traffic has flowed for a while.
func (r *run) rest() {
	r.t.Helper()
	r.flows(int(restFor.Seconds() * flowRate))
}

// sends waits until ESP comes from a gateway. It asks nobody: questions would
// compete with what is measured.
func (r *run) sends(m *Member) {
	r.t.Helper()
	before := r.sent.of(m.WAN)
	lab.Eventually(r.t, 30*time.Second, "ESP from "+m.Name, func() bool {
		time.Sleep(pollEvery)
		return r.sent.of(m.WAN) > before
	})
}

// flows waits until n more packets have arrived on every flow.
func (r *run) flows(n int) {
	r.t.Helper()
	want := make([]int, len(r.meter.Flows))
	for i, f := range r.meter.Flows {
		want[i] = f.Received() + n
	}
	lab.Eventually(r.t, 30*time.Second, fmt.Sprintf("%d packets on every flow", n), func() bool {
		for i, f := range r.meter.Flows {
			if f.Received() < want[i] {
				time.Sleep(pollEvery) // a guest pays for every look
				return false
			}
		}
		return true
	})
}

// compareTables notes what gw1 has, and ends the test when gw2 has not the same.
func (r *run) compareTables(gw1, gw2 *Member) {
	r.t.Helper()
	var err error
	if r.before, err = ReadTables(gw1.Node); err != nil {
		r.t.Fatalf("%v", err)
	}
	copied, err := ReadTables(gw2.Node)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	for _, d := range Differences(r.before, copied, gw1.Name, gw2.Name) {
		r.t.Errorf("before the failover: %s", d)
	}
	for _, tn := range r.Tunnels {
		r.say("gw2", fmt.Sprintf("has SA %#x by replication: gw1 has sent %d packets, gw2 would go on with number %d",
			tn.SPIOut, r.before.Sent[tn.SPIOut], copied.Sent[tn.SPIOut]+1))
	}
}

// finish ends the traffic and judges.
func (r *run) finish() *Result {
	r.t.Helper()
	r.endPhase(time.Now(), r.refusals())
	res := &Result{Transfer: r.transfer.Finish(transferLimit), Bytes: r.transfer.Bytes()}
	r.meter.Stop()
	r.capture.Stop()
	for _, p := range r.phases {
		p.Traffic = r.meter.Between(p.From, p.To)
		p.Wire = r.capture.Between(p.From, p.To)
		res.Phases = append(res.Phases, *p)
	}
	res.Total = Phase{Name: "all", Traffic: r.meter.Total(), Refused: r.refusals(),
		Wire: r.capture.Between(time.Unix(0, 0), time.Now().Add(time.Hour))}
	for _, d := range r.capture.Duplicates() {
		res.Details = append(res.Details, d.String())
	}
	_, plain := r.capture.Plaintext()
	res.Details = append(res.Details, plain...)
	for _, m := range r.Members {
		now, err := ReadTables(m.Node)
		if err != nil {
			r.t.Fatalf("%v", err)
		}
		res.Changed = append(res.Changed, Differences(r.before, now, "gw1 at the start", m.Name+" at the end")...)
	}
	return res
}

func (r *run) say(who, what string) { r.tell(time.Now(), who, what) }

// tellTraffic tells once a second what flows.
func (r *run) tellTraffic(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	sent, received := 0, 0
	var esp [2]int
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-tick.C:
			s, rx := 0, 0
			for _, f := range r.meter.Flows {
				s += f.Sent()
				rx += f.Received()
			}
			e := [2]int{r.sent.of(r.Members[0].WAN), r.sent.of(r.Members[1].WAN)}
			r.tell(at, "traffic", fmt.Sprintf("%4d/s sent, %4d/s received; ESP by gw1 %4d/s, by gw2 %4d/s",
				s-sent, rx-received, e[0]-esp[0], e[1]-esp[1]))
			sent, received, esp = s, rx, e
		}
	}
}

// sentESP counts the ESP packets that left each port.
type sentESP struct {
	mu sync.Mutex
	n  map[*lab.Port]int
}

func (c *sentESP) count(p *capture.Packet) {
	if !p.IsESP {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[*lab.Port]int{}
	}
	c.n[p.Port]++
}

func (c *sentESP) of(p *lab.Port) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[p]
}
