package matrix

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// Ports of the daemons' metrics, in each gateway's namespace.
const (
	sasyncdMetrics = 9750
	carpdMetrics   = 9751
)

// What a daemon that lives through all failovers may need more at the end than
// after the first hundred: nothing, but that a reading meets some work under
// way, and a heap of Go grows and shrinks by its own rules.
const (
	moreGoroutines  = 3
	moreDescriptors = 3
	moreMemory      = 4 << 20 // bytes of resident set
)

// ways to lose gw1, and how often of 20.
var ways = []struct {
	name  string
	often int
}{
	{"power cut", 7}, {"carpd killed", 4}, {"sasyncd killed", 2}, {"carpctl resign", 4}, {"sasyncctl failover", 3},
}

// failover is one of the run.
type failover struct {
	way      string
	from, to time.Time
	refused  int
}

// usage is what a daemon uses.
type usage struct {
	after                           int // failovers
	goroutines, descriptors, memory int
}

// TestFailovers moves the traffic from one gateway to the other and back, as
// often as the flag says. gw1 dies in all ways, gw2 always hands back: its
// daemons live through all of it.
func TestFailovers(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 0))
	p := scenario.NewPair(t)
	p.Interval, p.AloneAfter = 50*time.Millisecond, time.Second
	p.CarpdExtra = fmt.Sprintf("metrics listen on 127.0.0.1 port %d\n", carpdMetrics)
	p.SasyncdExtra = fmt.Sprintf("metrics listen on 127.0.0.1 port %d\nreplay interval 250ms\n", sasyncdMetrics)
	gw1, gw2 := p.Members[0], p.Members[1]
	p.Start()
	p.StartHold = 100 * time.Millisecond // from now on
	before := tables(t, gw1.Node)
	var had []string
	for _, m := range p.Members {
		had = append(had, inventory(t, m))
	}
	m, c := traffic(t, p, 50)
	flowing(t, m, 50)

	doing := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("failed at %s", doing)
		}
	})
	var list []failover
	use := map[string][]usage{}
	began := time.Now()
	for n := 1; n <= *failovers; n++ {
		old, next := gw1, gw2
		way := draw(r)
		if n%2 == 0 {
			old, next = gw2, gw1
			way = []string{"carpctl resign", "sasyncctl failover"}[r.IntN(2)]
		}
		doing = fmt.Sprintf("failover %d: %s of %s", n, way, old.Name)
		f := failover{way: way, from: time.Now(), refused: refused(p)}
		was := stats(p)
		lose(t, old, way)
		next.WaitRole("MASTER")
		flowing(t, m, 5)
		comeBack(old, way)
		p.WaitFit(next)
		f.to, f.refused = time.Now(), refused(p)-f.refused
		list = append(list, f)
		if f.refused != 0 {
			t.Errorf("failover %d (%s of %s): %d packets refused for their sequence number: %v, before %v", n, way, old.Name, f.refused, stats(p), was)
		}
		if n%10 == 0 || n == *failovers {
			for _, d := range scenario.Differences(tables(t, gw1.Node), tables(t, gw2.Node), "gw1", "gw2") {
				t.Errorf("after failover %d: %s", n, d)
			}
			for name, pid := range map[string][2]int{"carpd": {gw2.Carpd.PID(), carpdMetrics}, "sasyncd": {gw2.Sasyncd.PID(), sasyncdMetrics}} {
				use[name] = append(use[name], measure(t, gw2, n, pid[0], pid[1]))
			}
		}
		if n%100 == 0 {
			t.Logf("%d failovers in %v", n, time.Since(began).Round(time.Second))
		}
		if t.Failed() {
			break // what follows would only repeat it
		}
	}
	took := time.Since(began)
	flowing(t, m, 50)
	m.Stop()
	c.RequireClean()

	for i, g := range p.Members {
		for _, d := range scenario.Differences(before, tables(t, g.Node), "gw1 at the start", g.Name+" at the end") {
			t.Error(d)
		}
		if *failovers%2 == 0 && !t.Failed() {
			if now := inventory(t, g); now != had[i] {
				t.Errorf("%s has other rules, routes or addresses than at the start:\n%s\nbefore:\n%s", g.Name, now, had[i])
			}
		}
	}
	total := m.Total()
	esp, dup := 0, 0
	for _, sa := range c.SAs() {
		esp += sa.Packets
		dup += sa.Duplicates
	}
	t.Logf("%d failovers in %v, seed %d: %d packets sent, %d lost, %d ESP packets on the WAN; sequence numbers sent twice: %d, packets refused: %d, in plaintext: %d",
		len(list), took.Round(time.Second), *seed, total.Sent, total.Lost, esp, dup, refused(p), first(c.Plaintext()))
	t.Logf("SAs and policies: %d and %d at the start, %d and %d on gw1, %d and %d on gw2 at the end", len(before.States), len(before.Policies),
		len(tables(t, gw1.Node).States), len(tables(t, gw1.Node).Policies), len(tables(t, gw2.Node).States), len(tables(t, gw2.Node).Policies))
	t.Logf("\n%s", gaps(m.Between, list))
	flat(t, use)
}

func first(n int, _ []string) int { return n }

// draw takes a way by its weight.
func draw(r *rand.Rand) string {
	n := r.IntN(20)
	for _, w := range ways {
		if n -= w.often; n < 0 {
			return w.name
		}
	}
	return ways[0].name
}

// lose has a gateway lose its mastership.
func lose(t *testing.T, g *scenario.Member, way string) {
	t.Helper()
	switch way {
	case "power cut":
		g.Off()
	case "carpd killed":
		g.Carpd.Kill()
	case "sasyncd killed":
		g.Sasyncd.Kill() // after a while alone, the election hands over
	case "carpctl resign":
		g.Resign()
	case "sasyncctl failover":
		if out, err := ctl(t, g.Node, "sasyncctl", "-s "+g.Socket()+" failover"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// comeBack undoes what lose has done.
func comeBack(g *scenario.Member, way string) {
	switch way {
	case "power cut":
		g.Return()
	case "carpd killed":
		g.StartCarpd()
	case "sasyncd killed":
		g.StartSasyncd()
	}
}

// inventory is what a gateway has beside SAs and policies that a failover might
// leave behind.
func inventory(t *testing.T, m *scenario.Member) string {
	t.Helper()
	var lines []string
	for _, cmd := range []string{"ip -4 rule", "ip -6 rule", "ip -o -br addr", "ip -4 route show table all", "ip -6 route show table all", "ip neigh show nud permanent"} {
		for line := range strings.Lines(m.Run(cmd)) {
			if i := strings.Index(line, " expires "); i >= 0 {
				line = line[:i] + "\n"
			}
			lines = append(lines, cmd+": "+line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// measure asks the kernel and the daemon what it uses.
func measure(t *testing.T, m *scenario.Member, after, pid, port int) usage {
	t.Helper()
	u := usage{after: after}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(fds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			u.memory, err = strconv.Atoi(f[1])
			u.memory <<= 10
		}
	}
	if err != nil || u.memory == 0 {
		t.Fatalf("no resident set in /proc/%d/status: %v", pid, err)
	}
	u.goroutines = metric(t, m.Node, port, "go_goroutines")
	return u
}

// metric reads one number from a daemon's metrics.
func metric(t *testing.T, nd *lab.Node, port int, name string) int {
	t.Helper()
	var c net.Conn
	err := nd.Do(func() (err error) {
		c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) == 2 && f[0] == name {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(v)
		}
	}
	t.Fatalf("no metric %s on port %d of %s", name, port, nd.Name)
	return 0
}

// gaps is a table of the longest gap of each failover, by way.
func gaps(between func(from, to time.Time) meter.Report, list []failover) string {
	by := map[string][]time.Duration{}
	lost := map[string]int{}
	for _, f := range list {
		r := between(f.from, f.to)
		by[f.way] = append(by[f.way], r.Gap)
		lost[f.way] += r.Lost
	}
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "way\tfailovers\tmedian gap\t95th\tworst\tlost\t")
	for _, w := range ways {
		g := by[w.name]
		if len(g) == 0 {
			continue
		}
		slices.Sort(g)
		fmt.Fprintf(tw, "%s\t%d\t%v\t%v\t%v\t%d\t\n", w.name, len(g), round(g[len(g)/2]), round(g[len(g)*95/100]), round(g[len(g)-1]), lost[w.name])
	}
	tw.Flush()
	return b.String()
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// flat compares the last readings with those of around the hundredth failover.
func flat(t *testing.T, use map[string][]usage) {
	t.Helper()
	for name, list := range use {
		var early, late []usage
		for _, u := range list {
			switch {
			case u.after > *failovers-50:
				late = append(late, u)
			case u.after >= min(100, *failovers/4) && u.after < min(100, *failovers/4)+50:
				early = append(early, u)
			}
		}
		if len(early) == 0 || len(late) == 0 {
			t.Logf("%s of gw2: too few failovers to compare", name)
			continue
		}
		for _, x := range []struct {
			what  string
			of    func(usage) int
			allow int
		}{
			{"goroutines", func(u usage) int { return u.goroutines }, moreGoroutines},
			{"descriptors", func(u usage) int { return u.descriptors }, moreDescriptors},
			{"bytes resident", func(u usage) int { return u.memory }, moreMemory},
		} {
			a, b := median(early, x.of), median(late, x.of)
			t.Logf("%s of gw2: %d %s around failover %d, %d around failover %d (at most %d more)", name, a, x.what, early[len(early)/2].after, b, late[len(late)/2].after, x.allow)
			if b > a+x.allow {
				t.Errorf("%s of gw2: %s grew from %d to %d", name, x.what, a, b)
			}
		}
	}
}

func median(list []usage, of func(usage) int) int {
	var v []int
	for _, u := range list {
		v = append(v, of(u))
	}
	slices.Sort(v)
	return v[len(v)/2]
}
