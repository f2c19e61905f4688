// Package native measures what needs no ESP, on this kernel, as root: how long
// traffic stops when a master fails, with carpd and with keepalived, in the same
// run with the same timers, and with carpd and ucarp with the shortest that ucarp
// has, 1 s; a planned switchover; and a snapshot of policies. It needs keepalived
// and ucarp.
//
// What a backup waits for begins with the last advertisement that it got, so
// the gap depends on when in the interval the master fails: by a whole interval
// of three and a half. Of N runs, run k fails the master (k + 1/2)/N of an
// interval after an advertisement, for both daemons alike, and the two take
// turns, so that what else the machine does hits both.
//
// BENCH_RUNS sets the number of runs of the cuts (default 7), the other faults
// and ucarp get a third of it. BENCH_FULL=1 adds the fault "cut" at 1 s and the other
// faults at all intervals, all with BENCH_RUNS runs. BENCH_JSON names a file for
// the lines that "make bench" puts into its table.
package native

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/vishvananda/netlink"

	"sasyncd/tests/bench/bare"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

const (
	defaultRuns = 7
	vip         = "10.1.0.1"
	stopped     = 2 * time.Second // of SIGSTOP
	// both is how long two nodes are watched for having the address.
	both = 4 * time.Second
)

// failure is what came of one.
type failure struct {
	gap     time.Duration // longest without a packet
	overlap time.Duration // both nodes had the address
}

// node is a gateway with one of the two daemons.
type node struct {
	*lab.Node
	in       *lab.Port
	priority int
	d        *lab.Daemon
}

func (n *node) has() bool { return strings.Contains(n.Run("ip -o -4 addr show"), " "+vip+"/") }

// start runs a daemon.
func (n *node) start(b *testing.B, daemon string, interval time.Duration) {
	b.Helper()
	switch daemon {
	case "ucarp":
		script := func(verb string) string {
			file := n.WriteFile("ucarp-"+verb, "#!/bin/sh\nexec ip addr "+verb+" "+vip+"/32 dev in0\n")
			if err := os.Chmod(file, 0o700); err != nil {
				b.Fatal(err)
			}
			return file
		}
		n.d = n.Exec("ucarp", exec.Command("ucarp", "-i", "in0", "-s", n.addr(), "-v", "10", "-p", "love", "-a", vip,
			"-b", seconds(interval),
			"-k", strconv.Itoa(200-n.priority), "-u", script("add"), "-d", script("del"), "-P"))
		return
	case "carpd for carp":
		file := n.WriteFile("carpd.conf", fmt.Sprintf("group g { preempt yes }\ncarp x { carpdev in0; vhid 10; pass "+
			"\"love\"; advbase %s; advskew %d; address %s/32; group g }\nsocket %q\nstatedir %q\n",
			seconds(interval), 200-n.priority, vip, n.socket(), filepath.Join(n.Dir(), "state")))
		n.d = n.Daemon("carpd", "-d", "-c", file)
		return
	case "carpd":
		file := n.WriteFile("carpd.conf", fmt.Sprintf("group g { preempt yes }\nvrrp x { carpdev in0; vrid 10; "+
			"priority %d; interval %v; address %s/32; group g }\nsocket %q\nstatedir %q\n",
			n.priority, interval, vip, n.socket(), filepath.Join(n.Dir(), "state")))
		n.d = n.Daemon("carpd", "-d", "-c", file)
		return
	}
	file := n.WriteFile("keepalived.conf", fmt.Sprintf(`vrrp_instance X {
	state BACKUP
	interface in0
	virtual_router_id 10
	priority %d
	version 3
	advert_int %v
	virtual_ipaddress {
		%s/32
	}
}
`, n.priority, interval.Seconds(), vip))
	n.d = n.Exec("keepalived", exec.Command("keepalived", "--dont-fork", "--log-console", "--vrrp", "-f", file,
		"-p", filepath.Join(n.Dir(), "keepalived.pid"), "-r", filepath.Join(n.Dir(), "vrrp.pid")))
}

// addr is the node's own address.
func (n *node) addr() string { return fmt.Sprintf("10.1.0.1%d", 3-n.priority/100) }

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func (n *node) socket() string { return filepath.Join(n.Dir(), "carpd.sock") }

// signal sends s to all processes of the daemon: keepalived has two.
func (n *node) signal(b *testing.B, s syscall.Signal) {
	b.Helper()
	if text, err := os.ReadFile(filepath.Join(n.Dir(), "vrrp.pid")); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 1 {
			b.Fatalf("pid file of keepalived: %q", text)
		}
		if pid != n.d.PID() {
			// The parent first: it would start the other one again.
			n.d.Signal(s)
			if err := syscall.Kill(pid, s); err != nil {
				b.Fatal(err)
			}
			return
		}
	}
	n.d.Signal(s)
}

// faults are the ways in which the master fails.
var faults = []string{"cut", "SIGTERM", "SIGKILL", "SIGSTOP"}

func (n *node) fail(b *testing.B, fault string) {
	b.Helper()
	switch fault {
	case "cut":
		// Somewhere in the network: the node keeps its carrier. Not by ip(8),
		// whose start would take a part of the interval.
		port := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: n.in.OuterIndex()}}
		if err := n.Net().Fabric().Netlink().LinkSetNoMaster(port); err != nil {
			b.Fatal(err)
		}
	case "SIGTERM":
		n.d.MayExit()
		n.d.Signal(syscall.SIGTERM)
	case "SIGKILL":
		n.d.MayExit()
		n.signal(b, syscall.SIGKILL)
	case "SIGSTOP":
		n.signal(b, syscall.SIGSTOP)
	}
}

// once measures one failure.
//
// phase is when in the interval it comes, from 0 to 1.
func once(b *testing.B, daemon, fault string, interval time.Duration, phase float64) failure {
	b.Helper()
	net := lab.New(b)
	in := net.Switch("in")
	host := net.Node("host")
	host.Plug(in, "eth0", "10.1.0.100/24")
	var nodes []*node
	for i := range 2 {
		n := &node{Node: net.Node(fmt.Sprintf("gw%d", i+1)), priority: 200 - 100*i}
		n.in = n.Plug(in, "in0", n.addr()+"/24")
		n.echo(b)
		nodes = append(nodes, n)
	}
	master, backup := nodes[0], nodes[1]
	master.start(b, daemon, interval)
	lab.Eventually(b, 10*time.Second, "there is a master", master.has)
	backup.start(b, daemon, interval)
	ready := time.Now().Add(4*interval + 500*time.Millisecond)
	p := startProbe(b, host)
	lab.Eventually(b, 10*time.Second, "traffic flows and the backup listens",
		func() bool { return time.Now().After(ready) && p.answers() > 100 })

	if _, err := scenario.AwaitAdvert(host, "eth0", netip.MustParseAddr(master.addr()), interval); err != nil {
		b.Fatal(err)
	}
	time.Sleep(time.Duration(phase * float64(interval))) // what is measured, not a wait for something
	began := time.Now()
	master.fail(b, fault)
	if fault == "SIGSTOP" {
		defer master.signal(b, syscall.SIGCONT)
	}
	lab.Eventually(b, 4*interval+4*time.Second, "the backup has taken over", backup.has)
	r := failure{}
	taken := time.Now()
	for r.overlap = time.Since(taken); fault != "cut" && master.has() &&
		r.overlap < both; r.overlap = time.Since(taken) {
		if fault == "SIGSTOP" && time.Since(began) >= stopped {
			break // it would go on now
		}
		lab.Eventually(b, time.Second, "a moment has passed", func() bool {
			return time.Since(taken) > r.overlap+
				20*time.Millisecond
		})
	}
	settled := time.Now().Add(500 * time.Millisecond)
	lab.Eventually(b, time.Second, "traffic flows again", func() bool { return time.Now().After(settled) })
	r.gap = p.gap(began)
	return r
}

// cell is a line of the table: the same fault for a daemon of ours and a peer's.
type cell struct {
	interval     time.Duration
	fault        string
	runs         int
	ours, theirs string
}

func vrrp(interval time.Duration, fault string, runs int) cell {
	return cell{interval, fault, runs, "carpd", "keepalived"}
}

// cells are what is measured, slowest last.
func cells(runs int, full bool) []cell {
	var out []cell
	intervals := []time.Duration{250 * time.Millisecond, 100 * time.Millisecond, 50 * time.Millisecond}
	for _, i := range intervals {
		out = append(out, vrrp(i, "cut", runs))
	}
	if !full {
		for _, fault := range faults[1:] {
			out = append(out, vrrp(intervals[0], fault, (runs+2)/3))
		}
		return append(out, cell{time.Second, "cut", (runs + 2) / 3, "carpd for carp", "ucarp"})
	}
	out = append(out, cell{time.Second, "cut", runs, "carpd for carp", "ucarp"})
	for _, i := range append(intervals, time.Second) {
		for _, fault := range faults {
			if i == time.Second || fault != "cut" {
				out = append(out, vrrp(i, fault, runs))
			}
		}
	}
	return out
}

// BenchmarkFailover prints the table.
func BenchmarkFailover(b *testing.B) {
	runs := defaultRuns
	if s := os.Getenv("BENCH_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			b.Fatalf("BENCH_RUNS is %q, write a number", s)
		}
		runs = n
	}
	for _, peer := range []string{"keepalived", "ucarp"} {
		if _, err := exec.LookPath(peer); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "interval\tfault\truns\tpeer\tcarpd gap\tpeer's gap\tratio\tcarpd overlap\tpeer's overlap\t")
	for _, c := range cells(runs, os.Getenv("BENCH_FULL") == "1") {
		results := map[string][]failure{}
		for run := range c.runs {
			for _, daemon := range []string{c.ours, c.theirs} {
				name := fmt.Sprintf("%s/%s/%v/%d", daemon, c.fault, c.interval, run)
				if !b.Run(name, func(b *testing.B) {
					r := once(b, daemon, c.fault, c.interval, (float64(run)+0.5)/float64(c.runs))
					b.ReportMetric(float64(r.gap.Microseconds())/1000, "gap-ms")
					results[daemon] = append(results[daemon], r)
				}) {
					report.Failed = append(report.Failed, name)
				}
			}
		}
		ours, theirs := results[c.ours], results[c.theirs]
		if len(ours) == 0 || len(theirs) == 0 {
			continue // left out by -bench
		}
		report.Lines = append(report.Lines, c.line(ours, theirs))
		cg, kg := median(ours, gap), median(theirs, gap)
		co, ko := "cannot know", "cannot know"
		if c.fault != "cut" {
			co, ko = left(median(ours, overlap)), left(median(theirs, overlap))
		}
		fmt.Fprintf(w, "%v\t%s\t%d\t%s\t%s\t%s\t%.2f\t%s\t%s\t\n", c.interval, c.fault, c.runs, c.theirs, ms(cg),
			ms(kg), float64(cg)/float64(max(kg, 1)), co, ko)
	}
	fmt.Printf("\nfailover, medians, measured in %v; overlap: the address was on both nodes\n",
		time.Since(began).Round(time.Second))
	w.Flush()
	fmt.Println("cut: the old master cannot know and keeps the address. SIGKILL, SIGSTOP: where no lease ends it, " +
		"the dead node's")
	fmt.Println("kernel goes on answering for the address, and that shows here as no gap, although no master is there.")
}

// within is how much longer than a peer's our gap may be.
const within = 1.1

// line is the cell in the table of "make bench". Only a cut is something that both
// daemons have to notice alike: of the others, the peer's gap is none where a dead
// node's kernel goes on answering.
func (c cell) line(ours, theirs []failure) result.Line {
	cg, kg := median(ours, gap), median(theirs, gap)
	l := result.Line{What: fmt.Sprintf("carpd beside %s, adverts every %v, %s: gap, median of %d", c.theirs, c.interval,
		c.fault, c.runs),
		Figure: ms(cg), Floor: ms(kg), Ratio: float64(cg) / float64(max(kg, 1)), Verdict: result.Beside,
		Machine: result.Machine(false)}
	if c.fault == "cut" {
		l.Target, l.Verdict = fmt.Sprintf("<= %.2f of %s's", within, c.theirs), result.Of(l.Ratio <= within)
	} else {
		l.Note = fmt.Sprintf("both nodes had the address for %s with carpd, %s with %s", left(median(ours, overlap)),
			left(median(theirs, overlap)), c.theirs)
	}
	return l
}

func gap(r failure) time.Duration     { return r.gap }
func overlap(r failure) time.Duration { return r.overlap }

func median(rs []failure, of func(failure) time.Duration) time.Duration {
	var ds []time.Duration
	for _, r := range rs {
		ds = append(ds, of(r))
	}
	slices.Sort(ds)
	return (ds[(len(ds)-1)/2] + ds[len(ds)/2]) / 2
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}

func left(d time.Duration) string {
	if d >= both {
		return "stays"
	}
	return ms(d)
}

// report collects the lines of all benchmarks.
var report result.Report

func TestMain(m *testing.M) {
	bare.Main()
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	began := time.Now()
	os.Exit(harness.BootOrRun(func() int {
		report.Processor, report.Go, report.At = result.Processor(), runtime.Version(), began.UTC()
		code := m.Run()
		report.Seconds = int(time.Since(began).Seconds())
		if file := os.Getenv("BENCH_JSON"); file != "" {
			if err := report.Write(file); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}, harness.Plain(), harness.Build(scenario.Programs()...)))
}
