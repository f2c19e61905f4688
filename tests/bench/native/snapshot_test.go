package native

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/tests/bench/bare"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

const (
	policies  = 10_000
	snapshots = 7
)

var tookPattern = regexp.MustCompile(`standby is complete .* took=(\S+)`)

// BenchmarkSnapshot is a snapshot of policies, which this kernel has without ESP: the
// way from one kernel into another is that of SAs, and here nothing of it is a
// guest's.
func BenchmarkSnapshot(b *testing.B) {
	c := cluster.New(b, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	var ops []sadb.Op
	for i := range policies {
		p := kerneltest.SamplePolicy(sadb.DirOut, "10.1.0.0/24", fmt.Sprintf("172.%d.%d.0/24", 16+i/250, i%250),
			"192.0.2.1", fmt.Sprintf("198.18.%d.%d", i/250, 1+i%250))
		ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
	}
	if err := errors.Join(m.Kernel.Apply(b.Context(), ops)...); err != nil {
		b.Fatal(err)
	}
	from, to := bare.Open(b, m), bare.Open(b, s)
	flush := func() { s.Run("ip xfrm policy flush") }
	m.Start()
	var floor, took []time.Duration
	for range snapshots {
		fresh, _ := bare.Copy(b, bare.Policies, from, to, flush)
		floor = append(floor, fresh.Total())
		flush()
		before := len(tookPattern.FindAllString(m.Daemon.Output(), -1))
		s.Start()
		var all [][]string
		lab.Eventually(b, cluster.SyncLimit, "the standby is complete", func() bool {
			time.Sleep(20 * time.Millisecond) // nobody is asked: see complete in tests/bench
			all = tookPattern.FindAllStringSubmatch(m.Daemon.Output(), -1)
			return len(all) > before
		})
		d, err := time.ParseDuration(all[len(all)-1][1])
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, d)
		c.WaitEqual(cluster.SyncLimit, s)
		s.Stop()
	}
	slices.Sort(floor)
	slices.Sort(took)
	least, mine := floor[snapshots/2], took[snapshots/2]
	b.ReportMetric(float64(mine.Microseconds())/1000, "ms")
	report.Lines = append(report.Lines, result.Line{What: fmt.Sprintf("snapshot of %d policies to an empty standby",
		policies), Figure: ms(mine), Floor: ms(least),
		Ratio: float64(least) / float64(mine), Verdict: result.Beside, Machine: result.Machine(false),
		Note: "the daemons' own work natively, where the kernel has no ESP and so no SAs"})
}
