package native

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

const (
	switchovers = 20
	flowRate    = 1000                   // packets a second of each of four flows
	window      = 500 * time.Millisecond // that is looked at for each switchover
)

// BenchmarkSwitchover is the planned switchover of carpd and sasyncd, with all that
// belongs to it (fence, exact counters, acknowledgement, hand-over, addresses), on
// this kernel. Only ESP is missing: what passes is the hosts' traffic as it is.
func BenchmarkSwitchover(b *testing.B) {
	p := scenario.NewPlain(b, 2)
	// Without any policy a gateway would forward nothing for its first 10 s as MASTER.
	p.Members[0].IP(fmt.Sprintf("xfrm policy add dir out src 10.250.0.0/16 dst 10.251.0.0/16 tmpl src %s dst "+
		"198.51.100.1 proto esp mode tunnel", lab.VIPOut))
	for _, m := range p.Members {
		m.StartDaemons()
	}
	fit(b, p, 0)
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: p.H1, To: p.H2, Src: src, Dst: dst, Port: port, Rate: flowRate})
	}
	m := meter.Start(b, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	look := func() (gap time.Duration) {
		from := time.Now()
		want := m.Received() + int(window.Seconds()*flowRate)
		lab.Eventually(b, 30*time.Second, "traffic has flowed for a while", func() bool { return m.Received() >= want })
		return m.Between(from, time.Now()).Gap
	}
	var calm, gaps []time.Duration
	for range 10 {
		calm = append(calm, look())
	}
	for k := range switchovers {
		p.Members[k%2].Resign()
		gaps = append(gaps, look())
		fit(b, p, (k+1)%2)
	}
	m.Stop()
	slices.Sort(calm)
	slices.Sort(gaps)
	quiet, med, worst := calm[len(calm)/2], gaps[len(gaps)/2], gaps[len(gaps)-1]
	b.ReportMetric(float64(med.Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
	what := fmt.Sprintf("planned switchover of both daemons without ESP, %d: traffic gap, ", switchovers)
	report.Lines = append(report.Lines,
		result.Line{What: what + "median", Target: "<= 20 ms", Figure: ms(med), Floor: ms(quiet) +
			" where nothing happens", Ratio: float64(med) / float64(max(quiet, 1)),
			Verdict: result.Of(med <= 20*time.Millisecond), Machine: result.Machine(false)},
		result.Line{What: what + "worst", Target: "<= 100 ms", Figure: ms(worst),
			Verdict: result.Of(worst <= 100*time.Millisecond), Machine: result.Machine(false)})
}

// fit waits until a member is master and the other follows it.
func fit(b *testing.B, p *scenario.Pair, master int) {
	b.Helper()
	lab.Eventually(b, 30*time.Second, p.Members[master].Name+" is master and the other follows", func() bool {
		x, err1 := p.Members[master].Status()
		y, err2 := p.Members[1-master].Status()
		return err1 == nil && err2 == nil && x.Groups[0].Role == "MASTER" && y.Groups[0].Role == "BACKUP" &&
			y.Groups[0].InSync && y.Groups[0].Why == "follows the master"
	})
}
