package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

// Row is one size. CPU is in percent of a processor; of a standby it is the mean
// of all.
type Row struct {
	SAs      int `json:"sas"`
	Standbys int `json:"standbys"`
	// Complete is how long it took from the start of all standbys, in empty
	// kernels, until the last was complete; Snapshot the bytes for each SA of
	// each standby.
	Complete float64 `json:"complete_seconds"`
	Snapshot float64 `json:"snapshot_bytes_per_sa"`

	Idle  Load `json:"idle"`
	Moved int  `json:"counters_moved_each_second"`
	Busy  Load `json:"busy"`

	MasterRSS  float64 `json:"master_rss"` // bytes
	StandbyRSS float64 `json:"standby_rss"`
	Reading    float64 `json:"reading_seconds"` // of the master's kernel, the last
	// Stale is the oldest age of counters that a standby had while they moved; the
	// margin has to make up for it.
	Stale float64 `json:"counters_stale_seconds"`
}

// Load is what a second costs.
type Load struct {
	Master  float64 `json:"master_cpu_percent"`
	Standby float64 `json:"standby_cpu_percent"`
	Wire    float64 `json:"wire_bytes_per_second"` // sent by the master, to all standbys
}

const (
	watchFor = 12 * time.Second
	maxMoved = 10_000
)

func measure(t lab.T, sas, standbys int) Row {
	row := Row{SAs: sas, Standbys: standbys, Moved: min(sas, maxMoved)}
	r := rand.New(rand.NewPCG(1, uint64(sas+standbys)))
	c := cluster.New(t, 1+standbys, 1)
	m := c.Master()
	list := cluster.SAs(r, sas)
	m.Apply(sadb.OpAddSA, list...)
	m.Start()
	before := sent(t, m)
	began := time.Now()
	for _, s := range c.Standbys() {
		s.Start()
	}
	for _, s := range c.Standbys() {
		lab.Eventually(t, 10*time.Minute, s.Name+" to be complete", func() bool {
			time.Sleep(100 * time.Millisecond) // a guest pays for every look
			st, err := s.Ask()
			return err == nil && st.Groups[0].InSync && st.Groups[0].SAs == sas
		})
	}
	row.Complete = time.Since(began).Seconds()
	row.Snapshot = float64(sent(t, m)-before) / float64(sas*standbys)
	time.Sleep(5 * time.Second) // what comes right behind a start

	row.Idle = load(t, c, func() { time.Sleep(watchFor) })
	row.Busy = load(t, c, func() {
		for end := time.Now().Add(watchFor); time.Now().Before(end); {
			next := time.Now().Add(time.Second)
			ops := make([]sadb.Op, row.Moved)
			for i := range ops {
				u := *list[i]
				n := 1 + r.Uint64N(1000)
				u.OSeq, u.Packets, u.Bytes, u.Used = u.OSeq+n, u.Packets+n, u.Bytes+n*900, true
				list[i] = &u
				ops[i] = sadb.Op{Kind: sadb.OpSetCounters, SA: &u}
			}
			if err := errors.Join(m.Kernel.Apply(t.Context(), ops)...); err != nil {
				t.Fatalf("move counters: %v", err)
			}
			time.Sleep(time.Until(next) / 2)
			for _, s := range c.Standbys() {
				if st, err := s.Ask(); err == nil {
					row.Stale = max(row.Stale, st.Groups[0].CounterAge)
				}
			}
			time.Sleep(time.Until(next))
		}
	})
	row.MasterRSS = resident(t, m)
	for _, s := range c.Standbys() {
		row.StandbyRSS += resident(t, s) / float64(standbys)
	}
	row.Reading = m.Counts().DumpTime.Seconds()
	fmt.Fprintf(os.Stderr, "%+v\n", row)
	return row
}

// load is what passes while f runs.
func load(t lab.T, c *cluster.Cluster, f func()) (l Load) {
	t.Helper()
	used := func() (list []time.Duration) {
		for _, nd := range c.Nodes {
			list = append(list, cpu(t, nd.Daemon.PID()))
		}
		return list
	}
	before, bytes, began := used(), sent(t, c.Master()), time.Now()
	f()
	took := time.Since(began)
	l.Wire = float64(sent(t, c.Master())-bytes) / took.Seconds()
	for i, d := range used() {
		share := 100 * float64(d-before[i]) / float64(took)
		if i == 0 {
			l.Master = share
		} else {
			l.Standby += share / float64(len(c.Nodes)-1)
		}
	}
	return l
}

// sent is what a node has sent on its first link, with all headers.
func sent(t lab.T, nd *cluster.Node) uint64 {
	t.Helper()
	l, err := nd.Netlink().LinkByName("sync0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l.Attrs().Statistics.TxBytes
}

// cpu reads utime and stime of /proc/PID/stat (proc(5), fields 14 and 15), in
// ticks of 10 ms.
func cpu(t lab.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatalf("%v", err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	u, err1 := strconv.ParseInt(fields[11], 10, 64)
	s, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("%v", err)
	}
	return time.Duration(u+s) * 10 * time.Millisecond
}

// resident reads VmRSS of /proc/PID/status, in bytes.
func resident(t lab.T, nd *cluster.Node) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", nd.Daemon.PID()))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(v)[0], 64)
			if err != nil {
				t.Fatalf("%v", err)
			}
			return kb * 1024
		}
	}
	return 0
}
