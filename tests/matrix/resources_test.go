package matrix

import (
	"bufio"
	"fmt"
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

// usage is what a daemon uses.
type usage struct {
	after                           int // failovers
	goroutines, descriptors, memory int
	heap                            int // bytes in use, garbage included
	collections                     int
}

// inventory is what a gateway has beside SAs and policies that a failover might
// leave behind.
func inventory(t *testing.T, m *scenario.Member) string {
	t.Helper()
	var lines []string
	for _, cmd := range []string{"ip -4 rule", "ip -6 rule", "ip -o -br addr", "ip -4 route show table all",
		"ip -6 route show table all", "ip neigh show nud permanent"} {
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
	u.goroutines, u.heap, u.collections = read["go_goroutines"], read["go_memstats_heap_alloc_bytes"],
		read["go_gc_duration_seconds_count"]
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
		t.Logf("longest gaps: %s at %s: %v, from %s", f.way, f.from.Format("15:04:05.000"), round(longest[f].Gap),
			longest[f].GapAt.Format("15:04:05.000"))
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
		t.Logf("%s: %d times, gap median %d ms, 95th percentile %d ms, worst %d ms, %d packets lost, %v each with "+
			"the return", w.name,
			len(g), out[i].MedianMS, out[i].P95MS, out[i].WorstMS, out[i].Lost,
			round(took[w.name]/time.Duration(len(g))))
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
		t.Logf("%s of gw2, kB resident/in its heap after failovers: %s; %d collections", name,
			strings.Join(series, ", "), last.collections)
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
			t.Logf("%s of gw2: %s %d from failover %d on, %d until %d (at most %d more)", name, what, a, start, b,
				last.after, allow)
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
				t.Errorf("carpd of gw2: %d bytes resident after failover %d, at most %d are promised", u.memory,
					u.after, carpdMemory)
				break
			}
		}
	}
	return out
}

func (u *usage) routines() int { return u.goroutines }

func (u *usage) files() int { return u.descriptors }

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
