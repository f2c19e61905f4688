// Package election measures how long traffic stops when a master fails, with
// carpd and with keepalived, in the same run with the same timers. It needs root
// and keepalived. BENCH_RUNS sets the number of runs of each case (default 3).
package election

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"sasyncd/tests/harness/lab"
)

const (
	defaultRuns = 3
	vip         = "10.1.0.1"
	stopped     = 2 * time.Second // of SIGSTOP
	// both is how long two nodes are watched for having the address.
	both = 4 * time.Second
)

// result is that of one run.
type result struct {
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
	if daemon == "carpd" {
		file := n.WriteFile("carpd.conf", fmt.Sprintf("group g { preempt yes }\nvrrp x { carpdev in0; vrid 10; priority %d; interval %v; address %s/32; group g }\nsocket %q\nstatedir %q\n",
			n.priority, interval, vip, n.socket(), filepath.Join(n.Dir(), "state")))
		n.d = n.Exec("carpd", exec.Command(filepath.Join(os.Getenv(envBin), "carpd"), "-d", "-c", file))
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
		// Somewhere in the network: the node keeps its carrier.
		n.Net().Fabric().IP("link set dev " + n.in.Outer + " nomaster")
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
func once(b *testing.B, daemon, fault string, interval time.Duration) result {
	b.Helper()
	net := lab.New(b)
	in := net.Switch("in")
	host := net.Node("host")
	host.Plug(in, "eth0", "10.1.0.100/24")
	var nodes []*node
	for i := range 2 {
		n := &node{Node: net.Node(fmt.Sprintf("gw%d", i+1)), priority: 200 - 100*i}
		n.in = n.Plug(in, "in0", fmt.Sprintf("10.1.0.1%d/24", i+1))
		n.echo(b)
		nodes = append(nodes, n)
	}
	master, backup := nodes[0], nodes[1]
	master.start(b, daemon, interval)
	lab.Eventually(b, 10*time.Second, "there is a master", master.has)
	backup.start(b, daemon, interval)
	ready := time.Now().Add(4*interval + 500*time.Millisecond)
	p := startProbe(b, host)
	lab.Eventually(b, 10*time.Second, "traffic flows and the backup listens", func() bool { return time.Now().After(ready) && p.answers() > 100 })

	began := time.Now()
	master.fail(b, fault)
	if fault == "SIGSTOP" {
		defer master.signal(b, syscall.SIGCONT)
	}
	lab.Eventually(b, 4*interval+2*time.Second, "the backup has taken over", backup.has)
	r := result{}
	taken := time.Now()
	for r.overlap = time.Since(taken); master.has() && r.overlap < both; r.overlap = time.Since(taken) {
		if fault == "SIGSTOP" && time.Since(began) >= stopped {
			break // it would go on now
		}
		lab.Eventually(b, time.Second, "a moment has passed", func() bool { return time.Since(taken) > r.overlap+20*time.Millisecond })
	}
	settled := time.Now().Add(500 * time.Millisecond)
	lab.Eventually(b, time.Second, "traffic flows again", func() bool { return time.Now().After(settled) })
	r.gap = p.gap(began)
	return r
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
	if _, err := exec.LookPath("keepalived"); err != nil {
		b.Fatal(err)
	}
	type key struct {
		daemon, fault string
		interval      time.Duration
	}
	results := map[key][]result{}
	intervals := []time.Duration{time.Second, 250 * time.Millisecond, 100 * time.Millisecond, 50 * time.Millisecond}
	for _, interval := range intervals {
		for _, fault := range faults {
			for run := range runs {
				for _, daemon := range []string{"carpd", "keepalived"} {
					k := key{daemon, fault, interval}
					b.Run(fmt.Sprintf("%s/%s/%v/%d", daemon, fault, interval, run), func(b *testing.B) {
						r := once(b, daemon, fault, interval)
						b.ReportMetric(float64(r.gap.Microseconds())/1000, "gap-ms")
						results[k] = append(results[k], r)
					})
				}
			}
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nfailover, medians of %d; overlap: the address was on both nodes\n", runs)
	fmt.Fprintln(w, "interval\tfault\tcarpd gap\tkeepalived gap\tratio\tcarpd overlap\tkeepalived overlap\t")
	for _, interval := range intervals {
		for _, fault := range faults {
			c, k := results[key{"carpd", fault, interval}], results[key{"keepalived", fault, interval}]
			if len(c) == 0 || len(k) == 0 {
				continue
			}
			cg, kg := median(c, gap), median(k, gap)
			fmt.Fprintf(w, "%v\t%s\t%s\t%s\t%.2f\t%s\t%s\t\n", interval, fault, ms(cg), ms(kg), float64(cg)/float64(max(kg, 1)),
				left(median(c, overlap)), left(median(k, overlap)))
		}
	}
	w.Flush()
	fmt.Println("cut: the old master cannot know and keeps the address. SIGKILL, SIGSTOP: where no lease ends it, the dead node's")
	fmt.Println("kernel goes on answering for the address, and that shows here as no gap, although no master is there.")
}

func gap(r result) time.Duration     { return r.gap }
func overlap(r result) time.Duration { return r.overlap }

func median(rs []result, of func(result) time.Duration) time.Duration {
	var ds []time.Duration
	for _, r := range rs {
		ds = append(ds, of(r))
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
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

// envBin is where TestMain put carpd.
const envBin = "ELECTION_BENCH_BIN"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "election-bench")
	if err == nil {
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", dir, "sasyncd/cmd/carpd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PATH="+os.Getenv("PATH")+":/usr/sbin")
		cmd.Stderr = os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBin, dir)
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
