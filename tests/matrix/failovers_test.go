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
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/reliability"
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
//
// carpd collects no garbage before it has 64 MiB, so of its heap the lowest
// reading counts, which is one soon after a collection.
const (
	moreGoroutines  = 3
	moreDescriptors = 3
	moreMemory      = 4 << 20  // bytes of resident set of sasyncd; of carpd's heap at its lowest
	carpdMemory     = 80 << 20 // bytes of resident set of carpd, at any time
)

// way is one to lose gw1, and how often of 20.
type way struct {
	name  string
	often int
}

var ways = []way{
	{"power cut", 4}, {"carpd killed", 3}, {"sasyncd killed", 2}, {"carpctl resign", 6}, {"sasyncctl failover", 5},
	{stalled, 0},
}

// stalled is a failover that nobody asked for.
const stalled = "stood still by itself"

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
	heap                            int // bytes in use, garbage included
	collections                     int
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
	var had [2]string // of gw1 and gw2, once both have been master and backup
	m, c := traffic(t, p, 50)
	flowing(t, m, 50)

	doing, again := "", 0
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("failed at %s", doing)
		}
	})
	var list []failover
	use := map[string][]usage{}
	still := map[*scenario.Member]int{} // how often it has stood still, up to the last failover
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
		for {
			if way == "sasyncd killed" {
				// Its last word to carpd must have been that there is a successor.
				flowing(t, m, 10)
			}
			stood, term := stalls(next), termOf(t, old)
			err := lose(t, old, way)
			took := taken(t, old, next, term)
			switch {
			// carpd keeps its node from what it cannot do: with 50 ms between
			// advertisements, a machine that stands still for longer than an interval
			// gives up being master, and does not become it.
			case took && err != nil && stalls(old) > still[old]:
				f.way = stalled
			case took && err != nil:
				t.Fatalf("failover %d (%s of %s): %v", n, way, old.Name, err)
			case took:
			case stalls(next) > stood: // the old master, which is still there, goes on
				again++
				p.WaitFit(old)
				continue
			default:
				t.Fatalf("failover %d (%s of %s): %s is MASTER again, and the machine of %s did not stand still", n, way, old.Name, old.Name, next.Name)
			}
			flowing(t, m, 5)
			comeBack(old, way)
			if kept(t, next, old) {
				break
			}
			if stalls(next) == stood {
				t.Fatalf("failover %d (%s of %s): %s does not stay MASTER, and its machine did not stand still", n, way, old.Name, next.Name)
			}
			again++ // it stood still when it had taken over, and the other one helped out
			f.way, f.from = way, time.Now()
		}
		for _, g := range p.Members {
			still[g] = stalls(g)
		}
		f.to, f.refused = time.Now(), refused(p)-f.refused
		list = append(list, f)
		if n == 2 {
			lab.Eventually(t, limit, "the way from gw2's address inside through the master", func() bool {
				time.Sleep(100 * time.Millisecond)
				return strings.Contains(inventory(t, gw2), "from "+gw2.InAddr6.String()+" blackhole")
			})
			had = [2]string{inventory(t, gw1), inventory(t, gw2)}
		}
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
			// A backup's addresses inside are seen to a moment later.
			for start := time.Now(); inventory(t, g) != had[i] && time.Since(start) < limit; time.Sleep(time.Second) {
			}
			if now := inventory(t, g); now != had[i] {
				t.Errorf("%s has other rules, routes or addresses than at the start:\n%s\nbefore:\n%s", g.Name, now, had[i])
			}
		}
	}
	total := m.Total()
	res := &reliability.Run{Failovers: len(list), Seconds: int(took.Seconds()), Sent: total.Sent, Lost: total.Lost, Refused: refused(p), Again: again}
	if again > len(list)/20 {
		t.Errorf("%d of %d failovers were cancelled because the machine stood still: this run shows nothing", again, len(list))
	}
	for _, sa := range c.SAs() {
		res.ESP += sa.Packets
		res.Duplicates += sa.Duplicates
	}
	res.Plaintext, _ = c.Plaintext()
	for _, g := range p.Members {
		tb := tables(t, g.Node)
		res.Leaked += max(0, len(tb.States)-len(before.States)) + max(0, len(tb.Policies)-len(before.Policies))
	}
	t.Logf("%d failovers in %v, seed %d: %d packets sent, %d lost, %d ESP packets on the WAN; sequence numbers sent twice: %d, packets refused: %d, in plaintext: %d, SAs and policies leaked: %d",
		len(list), took.Round(time.Second), *seed, total.Sent, total.Lost, res.ESP, res.Duplicates, res.Refused, res.Plaintext, res.Leaked)
	res.Ways = gaps(t, m, list)
	res.Use = flat(t, use)
	res.Failed = t.Failed()
	report(t, res)
}

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

// lose has a gateway lose its mastership. What is asked of a master, another
// node refuses.
func lose(t *testing.T, g *scenario.Member, way string) error {
	t.Helper()
	var out string
	var err error
	switch way {
	case "power cut":
		g.Off()
	case "carpd killed":
		g.Carpd.Kill()
	case "sasyncd killed":
		g.Sasyncd.Kill() // after a while alone, the election hands over
	case "carpctl resign":
		out, err = ctl(t, g.Node, "carpctl", "-s "+g.CarpdSocket()+" resign "+scenario.Group)
	case "sasyncctl failover":
		out, err = ctl(t, g.Node, "sasyncctl", "-s "+g.Socket()+" failover")
		if err != nil && strings.Contains(out, "this one is MASTER again") {
			return nil // it was begun
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// taken waits until next is MASTER, or until old, which lost mastership of this
// term in good order, has it again.
func taken(t *testing.T, old, next *scenario.Member, term uint64) bool {
	t.Helper()
	var took bool
	lab.Eventually(t, limit, "a new master", func() bool {
		if s, err := next.Status(); err == nil && len(s.Groups) == 1 && s.Groups[0].Role == "MASTER" {
			took = true
			return true
		}
		if !old.Carpd.Running() || !old.Sasyncd.Running() {
			return false
		}
		s, err := old.Status()
		return err == nil && len(s.Groups) == 1 && s.Groups[0].Role == "MASTER" && s.Groups[0].Term > term
	})
	return took
}

// kept waits until one of the two is a MASTER of which a failover would work, and
// reports whether that is next.
func kept(t *testing.T, next, old *scenario.Member) (yes bool) {
	t.Helper()
	fit := func(master, backup *scenario.Member) bool {
		x, err := master.Status()
		y, err2 := backup.Status()
		return err == nil && err2 == nil && len(x.Groups) == 1 && len(y.Groups) == 1 &&
			x.Groups[0].Role == "MASTER" && y.Groups[0].Role == "BACKUP" && y.Groups[0].InSync && master.Fit()
	}
	lab.Eventually(t, 2*limit, "a master with a backup in sync", func() bool {
		yes = fit(next, old)
		return yes || fit(old, next)
	})
	return yes
}

func termOf(t *testing.T, m *scenario.Member) uint64 {
	t.Helper()
	s, err := m.Status()
	if err != nil || len(s.Groups) != 1 {
		t.Fatalf("status of %s: %v", m.Name, err)
	}
	return s.Groups[0].Term
}

// stalls is how often carpd of a gateway has said that it gave mastership up, or
// did not take it, because it stood still.
func stalls(m *scenario.Member) int { return strings.Count(m.Carpd.Output(), "reason=stall") }

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
			if strings.Contains(line, " table 112112 ") && !strings.Contains(line, "blackhole") {
				continue // renewed by a master, gone by itself some time later
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
	read := metrics(t, m.Node, port)
	u.goroutines, u.heap, u.collections = read["go_goroutines"], read["go_memstats_heap_alloc_bytes"], read["go_gc_duration_seconds_count"]
	if u.goroutines == 0 || u.heap == 0 {
		t.Fatalf("%s tells neither goroutines nor heap on port %d", m.Name, port)
	}
	return u
}

// metrics reads all metrics of a daemon that have no labels.
func metrics(t *testing.T, nd *lab.Node, port int) map[string]int {
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
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := map[string]int{}
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) == 2 {
			if v, err := strconv.ParseFloat(f[1], 64); err == nil {
				read[f[0]] = int(v)
			}
		}
	}
	return read
}

// gaps logs the longest gap of each failover, by way, and the longest of all.
func gaps(t *testing.T, m *meter.Meter, list []failover) []reliability.Way {
	t.Helper()
	by := map[string][]time.Duration{}
	took := map[string]time.Duration{}
	out := make([]reliability.Way, len(ways))
	longest := make(map[*failover]meter.Report)
	var slow []*failover
	for i := range list {
		f := &list[i]
		r := m.Between(f.from, f.to)
		longest[f], slow = r, append(slow, f)
		by[f.way] = append(by[f.way], r.Gap)
		took[f.way] += f.to.Sub(f.from)
		w := slices.IndexFunc(ways, func(w way) bool { return w.name == f.way })
		out[w].Lost += r.Lost
	}
	slices.SortFunc(slow, func(x, y *failover) int { return int(longest[y].Gap - longest[x].Gap) })
	for _, f := range slow[:min(5, len(slow))] {
		t.Logf("longest gaps: %s at %s: %v, from %s", f.way, f.from.Format("15:04:05.000"), round(longest[f].Gap), longest[f].GapAt.Format("15:04:05.000"))
	}
	for i, w := range ways {
		out[i].Name = w.name
		g := by[w.name]
		if len(g) == 0 {
			continue
		}
		slices.Sort(g)
		out[i].Times, out[i].MedianMS = len(g), int(g[len(g)/2].Milliseconds())
		out[i].P95MS, out[i].WorstMS = int(g[len(g)*95/100].Milliseconds()), int(g[len(g)-1].Milliseconds())
		t.Logf("%s: %d times, gap median %d ms, 95th percentile %d ms, worst %d ms, %d packets lost, %v each with the return", w.name,
			len(g), out[i].MedianMS, out[i].P95MS, out[i].WorstMS, out[i].Lost, round(took[w.name]/time.Duration(len(g))))
	}
	return out
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// flat compares what was used around the hundredth failover with the end.
func flat(t *testing.T, use map[string][]usage) (out []reliability.Use) {
	t.Helper()
	start := min(100, *failovers/4)
	for name, list := range use {
		var series []string
		for i := 0; i < len(list); i += max(1, len(list)/20) {
			u := list[i]
			series = append(series, fmt.Sprintf("%d: %d/%d", u.after, u.memory>>10, u.heap>>10))
		}
		last := list[len(list)-1]
		t.Logf("%s of gw2, kB resident/in its heap after failovers: %s; %d collections", name, strings.Join(series, ", "), last.collections)
		list = slices.DeleteFunc(list, func(u usage) bool { return u.after < start })
		if len(list) < 10 {
			t.Logf("%s of gw2: too few failovers to compare", name)
			continue
		}
		few := len(list) / 10
		early, late := list[:few+1], list[len(list)-few-1:]
		compare := func(what string, a, b, allow int) {
			t.Helper()
			out = append(out, reliability.Use{Daemon: name, What: what, Early: a, Late: b, Allow: allow})
			t.Logf("%s of gw2: %s %d from failover %d on, %d until %d (at most %d more)", name, what, a, start, b, last.after, allow)
			if b > a+allow {
				t.Errorf("%s of gw2: %s grew from %d to %d", name, what, a, b)
			}
		}
		compare("goroutines", median(early, (*usage).routines), median(late, (*usage).routines), moreGoroutines)
		compare("descriptors", median(early, (*usage).files), median(late, (*usage).files), moreDescriptors)
		if name != "carpd" {
			compare("bytes resident", median(early, (*usage).resident), median(late, (*usage).resident), moreMemory)
			continue
		}
		if last.collections < 3 {
			t.Logf("carpd of gw2: %d collections are too few to compare heaps", last.collections)
		} else {
			compare("bytes of heap at its lowest", lowest(list[:len(list)/2]), lowest(list[len(list)/2:]), moreMemory)
		}
		for _, u := range list {
			if u.memory > carpdMemory {
				t.Errorf("carpd of gw2: %d bytes resident after failover %d, at most %d are promised", u.memory, u.after, carpdMemory)
				break
			}
		}
	}
	return out
}

func (u *usage) routines() int { return u.goroutines }
func (u *usage) files() int    { return u.descriptors }
func (u *usage) resident() int { return u.memory }

func median(list []usage, of func(*usage) int) int {
	var v []int
	for i := range list {
		v = append(v, of(&list[i]))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// lowest is the smallest heap that was seen.
func lowest(list []usage) int {
	n := list[0].heap
	for _, u := range list {
		n = min(n, u.heap)
	}
	return n
}
