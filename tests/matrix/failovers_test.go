package matrix

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/reliability"
	"sasyncd/tests/scenario"
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
				t.Fatalf("failover %d (%s of %s): %s is MASTER again, and the machine of %s did not stand still", n,
					way, old.Name, old.Name, next.Name)
			}
			flowing(t, m, 5)
			comeBack(old, way)
			if kept(t, next, old) {
				break
			}
			if stalls(next) == stood {
				t.Fatalf("failover %d (%s of %s): %s does not stay MASTER, and its machine did not stand still", n, way,
					old.Name, next.Name)
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
			t.Errorf("failover %d (%s of %s): %d packets refused for their sequence number: %v, before %v", n, way,
				old.Name, f.refused, stats(p), was)
		}
		if n%10 == 0 || n == *failovers {
			for _, d := range scenario.Differences(tables(t, gw1.Node), tables(t, gw2.Node), "gw1", "gw2") {
				t.Errorf("after failover %d: %s", n, d)
			}
			for name, pid := range map[string][2]int{"carpd": {gw2.Carpd.PID(), carpdMetrics},
				"sasyncd": {gw2.Sasyncd.PID(), sasyncdMetrics}} {
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
				t.Errorf("%s has other rules, routes or addresses than at the start:\n%s\nbefore:\n%s", g.Name, now,
					had[i])
			}
		}
	}
	total := m.Total()
	res := &reliability.Run{Failovers: len(list), Seconds: int(took.Seconds()), Sent: total.Sent, Lost: total.Lost,
		Refused: refused(p), Again: again}
	if again > len(list)/20 {
		t.Errorf("%d of %d failovers were cancelled because the machine stood still: this run shows nothing", again,
			len(list))
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
	t.Logf("%d failovers in %v, seed %d: %d packets sent, %d lost, %d ESP packets on the WAN; sequence numbers sent "+
		"twice: %d, packets refused: %d, in plaintext: %d, SAs and policies leaked: %d",
		len(list), took.Round(time.Second), *seed, total.Sent, total.Lost, res.ESP, res.Duplicates, res.Refused,
		res.Plaintext, res.Leaked)
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
