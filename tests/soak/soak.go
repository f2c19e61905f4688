package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/capture"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
	"sasyncd/tests/soak/soakdata"
)

const (
	// fitLimit and equalLimit end the waiting for a recovery.
	fitLimit   = 90 * time.Second
	equalLimit = 30 * time.Second
	// restMin and restMax are bounds of the quiet between two faults, in seconds.
	restMin, restMax = 5, 25
	// quietLag is the lag of a pair that has recovered.
	quietLag = time.Second
	// flowRate of each of four flows, in packets a second.
	flowRate = 25
)

// soak is one run.
type soak struct {
	*soakdata.Run
	duration time.Duration
	only     string // faults with this in their names

	t       lab.T
	r       *rand.Rand // of the faults; the churn has its own, since it runs beside
	pair    *scenario.Pair
	kernels map[*scenario.Member]*xfrm.Kernel
	churn   *churner
	watch   *observer
	began   time.Time
	lag     float64 // the largest since the last fault that was seen while waiting, in seconds
}

func (s *soak) run(t *lab.Program) {
	s.t, s.r = t, rand.New(rand.NewPCG(s.Seed, 1))
	s.pair = scenario.NewPair(t)
	s.pair.SasyncdExtra = "metrics listen on 127.0.0.1 port 9750\n"
	s.pair.CarpdExtra = "metrics listen on 127.0.0.1 port 9751\n"
	s.kernels = map[*scenario.Member]*xfrm.Kernel{}
	for _, m := range s.pair.Members {
		if err := m.Do(func() (err error) {
			s.kernels[m], err = xfrm.New(xfrm.Options{})
			return err
		}); err != nil {
			t.Fatalf("open kernel of %s: %v", m.Name, err)
		}
		t.Cleanup(func() { s.kernels[m].Close() })
	}
	s.churn = newChurner(t, s.pair, s.kernels, rand.New(rand.NewPCG(s.Seed, 2)), s.Tunnels, s.Rate)
	s.churn.install(s.pair.Members[0])
	s.pair.Start()

	s.began = time.Now()
	s.watch = &observer{pair: s.pair, began: s.began, done: s.churn.done}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { s.churn.run(ctx) })
	tasks.Go(func() { s.watch.run(ctx) })
	wire := capture.Start(t, capture.Config{Ports: s.pair.WANPorts(), Inner: lab.Inner()})
	flow := func(src, dst netip.Addr, port uint16) []meter.Config {
		return meter.Both(meter.Config{From: s.pair.H1, To: s.pair.H2, Src: src, Dst: dst, Port: port, Rate: flowRate})
	}
	traffic := meter.Start(t, append(flow(lab.H1Addr, lab.H2Addr, 7000), flow(lab.H1Addr6, lab.H2Addr6, 7002)...)...)
	defer func() {
		s.Took, s.Rekeys, s.Samples = time.Since(s.began).Seconds(), s.churn.done(), s.watch.all()
		traffic.Stop()
		wire.Stop()
		total := traffic.Total()
		s.Sent, s.Lost, s.Refused = total.Sent, total.Lost, s.refusals()
		s.Twice = len(wire.Duplicates())
		var plain []string
		s.Plaintext, plain = wire.Plaintext()
		if s.Twice+s.Plaintext > 0 {
			t.Errorf("%d sequence numbers twice, %d packets in plaintext (began %s): %v\n%s", s.Twice, s.Plaintext,
				s.began.Format(time.TimeOnly), wire.Duplicates(), strings.Join(plain, "\n"))
		}
	}()

	// All faults come equally often, in an order that is drawn anew each time.
	var order []int
	for time.Since(s.began) < s.duration {
		s.pause(restMin, restMax)
		if len(order) == 0 {
			order = s.r.Perm(len(faults))
			if order = slices.DeleteFunc(order, func(i int) bool {
				return !strings.Contains(faults[i].what+", "+
					faults[i].on, s.only)
			}); len(order) == 0 {
				s.t.Fatalf("there is no fault %q", s.only)
			}
		}
		if !s.suffer(&faults[order[0]]) {
			return
		}
		order = order[1:]
	}
	s.finish(cancel)
}

// suffer makes one fault and waits for the recovery; false when there is none.
func (s *soak) suffer(f *fault) bool {
	master := s.churn.master()
	if master == nil {
		s.t.Errorf("before the fault %q nobody or both were MASTER", f.what)
		return false
	}
	m := master
	if f.on == "backup" || f.on == "" && s.r.IntN(2) == 0 {
		m = s.pair.Members[1-slices.Index(s.pair.Members, master)]
	}
	role := "backup"
	if m == master {
		role = "master"
	}
	at, refused := time.Now(), s.refusals()
	s.lag = 0
	rec := soakdata.Fault{T: time.Since(s.began).Seconds(), What: f.what + ", " + role, Node: m.Name, Fit: -1,
		Equal: -1}
	f.do(s, m)
	rec.Lasted = time.Since(at).Seconds()
	ended := time.Now()
	why := s.waitFit()
	if why == "" {
		rec.Fit = time.Since(ended).Seconds()
		why = s.waitEqual()
	}
	if why == "" {
		rec.Equal = time.Since(ended).Seconds()
	} else {
		s.t.Errorf("%s, %s on %s: not recovered: %s", clock(rec.T), rec.What, rec.Node, why)
	}
	rec.Lag, rec.Refused = max(s.lag, s.watch.worst(rec.T)), s.refusals()-refused
	s.Faults = append(s.Faults, rec)
	s.t.Logf("%s  %-60s %s  lasted %5.1f s, fit after %5.1f s, equal after %5.1f s, worst lag %4.1f s, %d refused",
		clock(rec.T), rec.What, rec.Node, rec.Lasted, rec.Fit, rec.Equal, rec.Lag, rec.Refused)
	return why == ""
}

func clock(seconds float64) string {
	return fmt.Sprintf("%02d:%02d", int(seconds)/60, int(seconds)%60)
}

// waitFit waits until a failover would work, with the lag of a quiet pair, and
// returns why not.
func (s *soak) waitFit() (why string) {
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		if why = s.unfit(); why == "" || time.Since(began) > fitLimit {
			return why
		}
	}
}

// unfit says what keeps a failover from working, "" for nothing.
func (s *soak) unfit() string {
	masters := 0
	for _, m := range s.pair.Members {
		st, err := m.Status()
		if err != nil {
			return m.Name + ": " + err.Error()
		}
		g := st.Groups[0]
		if e, err := m.Elected(); err != nil || !strings.EqualFold(e.State, g.Role) {
			return fmt.Sprintf("%s: sasyncd is %s, carpd %s (%v)", m.Name, g.Role, e.State, err)
		}
		switch {
		case g.Role == "MASTER":
			masters++
			for _, st := range g.Standbys {
				s.lag = max(s.lag, st.Lag)
			}
			if len(g.Standbys) != 1 || !g.Standbys[0].Complete || g.Standbys[0].Lag >= quietLag.Seconds() {
				return fmt.Sprintf("%s: standbys %+v", m.Name, g.Standbys)
			}
		case g.Role != "BACKUP" || !g.InSync:
			return fmt.Sprintf("%s: %s, %s", m.Name, g.Role, g.Why)
		}
		var v struct {
			Fit     bool
			Reasons []struct{ What, Remedy string }
		}
		if err := scenario.Ask(m.Socket(), "check", &v); err != nil || !v.Fit {
			return fmt.Sprintf("%s: check: %v %v", m.Name, v.Reasons, err)
		}
	}
	if masters != 1 {
		return fmt.Sprintf("%d masters", masters)
	}
	return ""
}

// waitEqual has the churn wait until the tables are equal.
func (s *soak) waitEqual() (why string) {
	s.churn.mu.Lock()
	defer s.churn.mu.Unlock()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		diff, err := s.differences()
		if err != nil {
			return err.Error()
		}
		if len(diff) == 0 {
			return ""
		}
		if time.Since(began) > equalLimit {
			return fmt.Sprintf("%d differences: %s", len(diff), strings.Join(diff[:min(5, len(diff))], "; "))
		}
	}
}

// differences between the MASTER's tables and the other's.
func (s *soak) differences() ([]string, error) {
	master := s.churn.master()
	if master == nil {
		return []string{"nobody or both are MASTER"}, nil
	}
	var tables [2]*sadb.Snapshot
	for i, m := range []*scenario.Member{master, s.pair.Members[1-slices.Index(s.pair.Members, master)]} {
		snap, err := s.kernels[m].Dump(s.t.Context())
		if err != nil {
			return nil, fmt.Errorf("read tables of %s: %w", m.Name, err)
		}
		// A backup's policies for its own addresses inside have no template.
		snap.Policies = slices.DeleteFunc(snap.Policies, func(p *sadb.Policy) bool { return len(p.Templates) == 0 })
		tables[i] = snap
	}
	s.SAs, s.Policies = len(tables[0].SAs), len(tables[0].Policies)
	return cluster.Differences(tables[0], tables[1]), nil
}

// finish ends the churn and compares the tables for the last time.
func (s *soak) finish(stop func()) {
	stop()
	if why := s.waitFit(); why != "" {
		s.t.Errorf("at the end: %s", why)
	}
	if why := s.waitEqual(); why != "" {
		s.t.Errorf("at the end: %s", why)
		diff, err := s.differences()
		if err != nil {
			s.t.Errorf("%v", err)
		}
		s.Differences = len(diff)
	}
	if want := s.Tunnels*2 + 2*len(s.pair.Tunnels); s.SAs != want {
		s.t.Errorf("%d SAs at the end, want %d", s.SAs, want)
	}
}

// refusals is the number of packets that any end of the tunnels has refused for
// their sequence numbers.
func (s *soak) refusals() (n int) {
	n = lab.Refused(nil, s.pair.RGW.XfrmStat())
	for _, m := range s.pair.Members {
		n += lab.Refused(nil, m.XfrmStat())
	}
	return n
}
